"""token_shards.py against a plain reading of the window rule, and against damaged stores."""

import json
from pathlib import Path

import numpy as np
import pytest

from mcontriever import verify
from mcontriever.errors import DataError, StoreError
from mcontriever.preparation.npy_writer import NpyWriter
from mcontriever.token_manifest import FORMAT
from mcontriever.token_shards import TokenStore, count_windows

WIDTH = 8
Documents = dict[str, list[list[np.ndarray]]]


def make_store(folder: Path, documents: Documents) -> Path:
    """documents: language -> shards -> token arrays. Written as the format says, without the writer under test."""
    entries = []
    for language, shards in documents.items():
        for number, shard in enumerate(shards):
            names = {kind: f"{language}-{number}.{kind}.npy" for kind in ("tokens", "offsets")}
            np.save(folder / names["tokens"], np.concatenate(shard).astype(np.uint16))
            np.save(folder / names["offsets"], np.cumsum([0, *map(len, shard)]))
            entries.append(
                {
                    "shard": number,
                    "language": language,
                    "tokens_file": names["tokens"],
                    "offsets_file": names["offsets"],
                    "bytes": {name: (folder / name).stat().st_size for name in names.values()},
                    "sha256": {},
                }
            )
    manifest = {"format": FORMAT, "tokenizer": {"name": "tiny", "fingerprint": "f" * 64}, "shards": entries}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture(scope="module")
def documents() -> Documents:
    random = np.random.default_rng(0)

    def shard(count: int) -> list[np.ndarray]:
        return [random.integers(0, 60_000, size=random.integers(1, 50)) for _ in range(count)]

    return {"sw": [shard(150), shard(1), shard(64)], "ar": [shard(3)]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, documents: Documents) -> Path:
    return make_store(tmp_path_factory.mktemp("store"), documents)


def naive_windows(shards: list[list[np.ndarray]]) -> list[tuple[np.ndarray, int]]:
    """(document, number of the window in it) for each window of a language in order."""
    return [
        (document, number) for shard in shards for document in shard for number in range(max(1, len(document) // WIDTH))
    ]


def test_every_window_lies_where_the_rule_says(folder: Path, documents: Documents) -> None:
    store = TokenStore.open(folder, window_tokens=WIDTH)
    assert store.languages == ["ar", "sw"]
    for number, language in enumerate(store.languages):
        expected = naive_windows(documents[language])
        assert store.window_counts[language] == len(expected)
        for phase in (0, 12345):
            count = len(expected)
            flat, lengths = store.windows(
                np.full(count, number), np.arange(count), np.full(count, phase, dtype=np.uint64)
            )
            for got, (document, place) in zip(np.split(flat, np.cumsum(lengths)[:-1]), expected, strict=True):
                assert len(got) == min(WIDTH, len(document))
                slack = len(document) % WIDTH if len(document) >= WIDTH else 0
                candidates = [document[place * WIDTH + offset :][:WIDTH] for offset in range(slack + 1)]
                assert any(np.array_equal(got, candidate) for candidate in candidates)


def test_windows_of_one_document_share_an_offset_and_phases_reach_every_token(tmp_path: Path) -> None:
    document = np.arange(3 * WIDTH + 5)
    store = TokenStore.open(make_store(tmp_path, {"en": [[document]]}), window_tokens=WIDTH)
    assert store.window_counts == {"en": 3}
    seen: set[int] = set()
    offsets = set()
    for phase in range(60):
        flat, lengths = store.windows(np.zeros(3, dtype=int), np.arange(3), np.full(3, phase, dtype=np.uint64))
        assert lengths.tolist() == [WIDTH] * 3
        assert np.array_equal(flat, np.arange(flat[0], flat[0] + 3 * WIDTH))
        offsets.add(int(flat[0]))
        seen |= set(flat.tolist())
    assert offsets == set(range(6))
    assert seen == set(document.tolist())


def test_mixed_languages_and_repeats_come_back_in_order(folder: Path) -> None:
    store = TokenStore.open(folder, window_tokens=WIDTH)
    random = np.random.default_rng(1)
    language = random.integers(0, 2, size=200)
    counts = np.array(list(store.window_counts.values()))
    window = random.integers(0, counts[language])
    phase = random.integers(0, 2**63, size=200).astype(np.uint64)
    flat, lengths = store.windows(language, window, phase)
    for row, got in enumerate(np.split(flat, np.cumsum(lengths)[:-1])):
        one = slice(row, row + 1)
        assert np.array_equal(got, store.windows(language[one], window[one], phase[one])[0])
    empty, no_lengths = store.windows(language[:0], window[:0], phase[:0])
    assert len(empty) == len(no_lengths) == 0


def test_chosen_languages_keep_their_order(folder: Path) -> None:
    assert TokenStore.open(folder, languages=["sw", "ar"]).languages == ["sw", "ar"]
    with pytest.raises(DataError, match="no windows in fi; the store has ar, sw"):
        TokenStore.open(folder, languages=["sw", "fi"])


def test_another_tokenizer_is_refused(folder: Path) -> None:
    TokenStore.open(folder, "f" * 64)
    with pytest.raises(StoreError, match=r"made by tiny \(ffffffffffff\), the encoder has another tokenizer \(eeee"):
        TokenStore.open(folder, "e" * 64)


def test_missing_and_damaged_files_are_named(tmp_path: Path, documents: Documents) -> None:
    with pytest.raises(StoreError, match=r"no manifest\.json: this is not a token store, or its preparation has not"):
        TokenStore.open(tmp_path)
    folder = make_store(tmp_path, documents)
    tokens = folder / "sw-1.tokens.npy"
    whole = tokens.read_bytes()
    tokens.write_bytes(whole[:-2])
    with pytest.raises(StoreError, match=rf"{len(whole) - 2} bytes, the manifest says {len(whole)}\n.*sw-1\.tokens"):
        TokenStore.open(folder)
    tokens.unlink()
    with pytest.raises(StoreError, match=r"the file is missing\n  where: .*sw-1\.tokens\.npy"):
        TokenStore.open(folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "format": "other-9"}))
    with pytest.raises(StoreError, match="format 'other-9', this version reads"):
        TokenStore.open(folder)
    (folder / "manifest.json").write_text('{"format": ')
    with pytest.raises(StoreError, match="not valid JSON"):
        TokenStore.open(folder)


def test_a_changed_byte_is_found_by_verify(tmp_path: Path) -> None:
    import hashlib

    folder = make_store(tmp_path, {"en": [[np.arange(20)]]})
    manifest = json.loads((folder / "manifest.json").read_text())
    for entry in manifest["shards"]:
        entry["sha256"] = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in entry["bytes"]}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    store = TokenStore.open(folder)
    assert store.verify() == 2
    verify.run(folder)
    content = bytearray((folder / "en-0.tokens.npy").read_bytes())
    content[-1] ^= 1
    (folder / "en-0.tokens.npy").write_bytes(bytes(content))
    for check in (store.verify, lambda: verify.run(folder)):
        with pytest.raises(StoreError, match=r"checksum .* the manifest says"):
            check()


def test_the_npy_writer_writes_what_numpy_writes(tmp_path: Path) -> None:
    rows = np.arange(3_000_000, dtype=np.uint16).reshape(-1, 3)
    with NpyWriter(tmp_path / "ours.npy", "<u2", (3,)) as writer:
        for start in range(0, len(rows), 77_777):
            writer.append(rows[start : start + 77_777])
    np.testing.assert_array_equal(np.load(tmp_path / "ours.npy", mmap_mode="r"), rows)
    with NpyWriter(tmp_path / "none.npy", "<i8") as writer:
        pass
    assert np.load(tmp_path / "none.npy").shape == (0,)


def test_count_windows() -> None:
    assert count_windows(np.array([0, 3, 3 + 256, 259 + 511, 770 + 512]), 256) == 1 + 1 + 1 + 2
