"""Changing a store: append, replace, delete, compact; what is refused; and what a crash or a full disk leaves."""

import contextlib
import multiprocessing
import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mcontriever.encoder import Encoder
from mcontriever.encoder.cpu_int8 import can_int8
from mcontriever.errors import ConfigError, DataError, StoreError
from mcontriever.retrieval.embedding.embedding_run import embed
from mcontriever.retrieval.embedding.launching import Place
from mcontriever.retrieval.embedding.request import EmbeddingRequest
from mcontriever.retrieval.store import store_edits, store_runs
from mcontriever.retrieval.store.embedding_store import EmbeddingStore
from mcontriever.retrieval.store.store_check import find_damage
from mcontriever.retrieval.store.store_manifest import read_plan
from mcontriever.texts.documents import Document
from tests.retrieval.small_corpora import all_ids, all_vectors, make_store, mixed_documents, write_lines

DOCUMENTS = mixed_documents(60)


def live_ids(store: EmbeddingStore) -> list[str]:
    ids = np.array(all_ids(store))
    return ids.tolist() if store.live_N is None else ids[store.live_N].tolist()


def add(folder: Path, documents: list[Document], encoder: Encoder | None, mode: str) -> EmbeddingStore:
    corpus = write_lines(folder.parent / f"more-{len(os.listdir(folder.parent))}.jsonl", documents)
    embed(EmbeddingRequest(str(corpus), folder, model="tiny" if encoder else "bm25", mode=mode), encoder=encoder)  # type: ignore[arg-type]
    return EmbeddingStore.open(folder)


def test_append_replace_delete_compact(tmp_path: Path, encoder: Encoder) -> None:
    store = make_store(tmp_path / "s", DOCUMENTS[:30], encoder, shard_documents=10)
    store = add(store.folder, DOCUMENTS[30:], encoder, "append")
    assert live_ids(store) == [document.id for document in DOCUMENTS]
    assert store.manifest.generation == 2

    changed = [Document("d5", "new text"), Document("d45", "other new text"), Document("x", "added")]
    store = add(store.folder, changed, encoder, "replace")
    kept = [document.id for document in DOCUMENTS if document.id not in ("d5", "d45")]
    assert live_ids(store) == [*kept, "d5", "d45", "x"]
    assert store.manifest.documents == 61
    np.testing.assert_allclose(all_vectors(store)[-2], encoder.embed_documents(["other new text"])[0], atol=2e-3)

    assert store_edits.delete(store.folder, ["d0", "x", "nobody", "d0"], missing_ok=True) == (2, ["nobody"])
    assert store_edits.delete(store.folder, ["d0"], missing_ok=True) == (0, ["d0"])
    store = EmbeddingStore.open(store.folder)
    survivors = [name for name in [*kept, "d5", "d45"] if name != "d0"]
    assert live_ids(store) == survivors

    before = dict(zip(all_ids(store), all_vectors(store), strict=True))
    assert store_edits.compact(store.folder) > 0
    store = EmbeddingStore.open(store.folder)
    assert store.manifest.deleted is None
    assert all_ids(store) == survivors
    for name, vector in zip(all_ids(store), all_vectors(store), strict=True):
        np.testing.assert_array_equal(vector, before[name])
    assert find_damage(store.folder)[0] == []
    assert store_edits.compact(store.folder) == 0
    add(store.folder, [Document("d0", "back again")], encoder, "append")


def test_a_document_replaced_by_an_empty_one_is_gone(tmp_path: Path) -> None:
    store = make_store(tmp_path / "s", DOCUMENTS[:5], None)
    store = add(store.folder, [Document("d2", " "), Document("y", "text")], None, "replace")
    assert live_ids(store) == ["d0", "d1", "d3", "d4", "y"]


def test_empty_documents_are_left_out_counted_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    documents = [DOCUMENTS[0], Document("e1", ""), Document("titled", "", "only a title"), Document("e2", "\n")]
    store = make_store(tmp_path / "s", documents, None)
    assert all_ids(store) == ["d0", "titled"]
    assert store.manifest.runs[0].empty == 2
    assert store.manifest.shards[0].empty_ids == ["e1", "e2"]


def test_what_an_existing_store_refuses(tmp_path: Path, encoder: Encoder) -> None:
    store = make_store(tmp_path / "s", DOCUMENTS[:10], encoder)
    manifest = (store.folder / "manifest.json").read_bytes()
    with pytest.raises(StoreError, match=r"a store of 10 documents is here already[\s\S]*--append or --replace"):
        add(store.folder, DOCUMENTS[20:25], encoder, "new")
    with pytest.raises(DataError, match=r"the id 'd9' is in the store already[\s\S]*:3, and "):
        add(store.folder, [DOCUMENTS[20], DOCUMENTS[21], DOCUMENTS[9]], encoder, "append")
    with pytest.raises(StoreError, match=r"made by another encoder: tiny \(fingerprint \w{12}\), not bm25"):
        add(store.folder, DOCUMENTS[20:25], None, "append")
    corpus = write_lines(tmp_path / "c.jsonl", DOCUMENTS[20:25])
    with pytest.raises(StoreError, match="the store has dtype fp16, not int8"):
        embed(EmbeddingRequest(str(corpus), store.folder, mode="append", dtype="int8"), encoder=encoder)
    assert (store.folder / "manifest.json").read_bytes() == manifest
    assert read_plan(store.folder) is None


def test_another_encoder_is_named_with_what_differs(tmp_path: Path, encoder: Encoder, tiny_encoder_dir: Path) -> None:
    store = make_store(tmp_path / "s", DOCUMENTS[:10], encoder)
    shorter = Encoder.load(tiny_encoder_dir, max_length=64)
    with pytest.raises(StoreError, match=r"another encoder[\s\S]*max_length 128 against 64"):
        add(store.folder, DOCUMENTS[20:25], shorter, "append")


def test_the_same_run_again_does_nothing_and_a_changed_corpus_is_noticed(tmp_path: Path) -> None:
    store = make_store(tmp_path / "s", DOCUMENTS[:10], None)
    before = (store.folder / "manifest.json").read_bytes()
    make_store(tmp_path / "s", DOCUMENTS[:10], None)  # the file is written anew, with the same content
    assert (store.folder / "manifest.json").read_bytes() == before
    with pytest.raises(StoreError, match=r"s\.jsonl has changed since it was embedded[\s\S]*--replace"):
        make_store(tmp_path / "s", DOCUMENTS[:11], None)


def stop_after(monkeypatch: pytest.MonkeyPatch, shards: int) -> None:
    """Let the run end with an error when so many shards are written."""
    from mcontriever.retrieval.embedding import shard_embedding

    write_shard, written = store_runs.write_shard, iter(range(shards))

    def limited(*arguments, **named):  # type: ignore[no-untyped-def]
        if next(written, None) is None:
            raise KeyboardInterrupt
        return write_shard(*arguments, **named)

    monkeypatch.setattr(shard_embedding, "write_shard", limited)


def test_an_unfinished_run_is_refused_to_others_and_goes_on(
    tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_after(monkeypatch, shards=2)
    with pytest.raises(KeyboardInterrupt):
        make_store(tmp_path / "s", DOCUMENTS, encoder, shard_documents=10)
    monkeypatch.undo()
    with pytest.raises(StoreError, match=r"not complete: 2 of 6 shards are done[\s\S]*same mcontriever embed command"):
        EmbeddingStore.open(tmp_path / "s")
    with pytest.raises(StoreError, match=r"an unfinished new of .*s\.jsonl is under way here: 2 of 6"):
        add(tmp_path / "s", DOCUMENTS[:3], encoder, "new")
    first = (tmp_path / "s" / "vectors-00000.npy").stat().st_mtime_ns
    store = make_store(tmp_path / "s", DOCUMENTS, encoder, shard_documents=10)
    assert (tmp_path / "s" / "vectors-00000.npy").stat().st_mtime_ns == first
    assert all_ids(store) == [document.id for document in DOCUMENTS]


def test_an_unfinished_append_leaves_the_store_as_it_was_and_can_be_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(tmp_path / "s", DOCUMENTS[:10], None)
    corpus = write_lines(tmp_path / "c.jsonl", DOCUMENTS[10:])
    request = EmbeddingRequest(str(corpus), store.folder, mode="append", shard_documents=10)
    stop_after(monkeypatch, shards=3)
    with pytest.raises(KeyboardInterrupt):
        embed(request)
    monkeypatch.undo()
    assert all_ids(EmbeddingStore.open(store.folder)) == [document.id for document in DOCUMENTS[:10]]
    with pytest.raises(StoreError, match="an unfinished append"):
        store_edits.delete(store.folder, ["d0"])
    write_lines(corpus, DOCUMENTS[10:20])
    with pytest.raises(StoreError, match=r"c\.jsonl has changed[\s\S]*--restart"):
        embed(request)
    embed(EmbeddingRequest(str(corpus), store.folder, mode="append", shard_documents=10, restart=True))
    assert all_ids(EmbeddingStore.open(store.folder)) == [document.id for document in DOCUMENTS[:20]]
    assert not list(store.folder.glob("shard-*.json"))


def test_a_kill_between_the_manifest_and_the_sweeping_is_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(store_runs, "sweep", killed)
    with pytest.raises(KeyboardInterrupt):
        make_store(tmp_path / "s", DOCUMENTS, None, shard_documents=10)
    monkeypatch.undo()
    assert all_ids(EmbeddingStore.open(tmp_path / "s")) == [document.id for document in DOCUMENTS]
    store = make_store(tmp_path / "s", DOCUMENTS, None, shard_documents=10)
    assert not list(store.folder.glob("shard-*.json"))
    assert read_plan(store.folder) is None


def embed_in_process(
    corpus: str, folder: Path, encoder: Encoder, rank: int = 0, world: int = 1, precision: str = "auto"
) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_RANK": str(rank)}
    request = EmbeddingRequest(corpus, folder, model="tiny", shard_documents=10, precision=precision)
    embed(request, encoder=encoder)


def forked(*arguments: object) -> multiprocessing.context.ForkProcess:
    """A process of its own that need not load anything first."""
    return multiprocessing.get_context("fork").Process(target=embed_in_process, args=arguments)


def test_killed_ten_times_at_random_nothing_is_lost_and_nothing_comes_twice(tmp_path: Path, encoder: Encoder) -> None:
    documents = mixed_documents(600)
    corpus = str(write_lines(tmp_path / "c.jsonl", documents))
    embed(EmbeddingRequest(corpus, tmp_path / "straight", model="tiny", shard_documents=10), encoder=encoder)
    straight = EmbeddingStore.open(tmp_path / "straight")
    folder = tmp_path / "killed"
    chance, seen = random.Random(5), []
    for _ in range(10):
        process = forked(corpus, folder, encoder)
        process.start()
        before = len(seen) and seen[-1]
        deadline = time.monotonic() + 60
        wanted = before + chance.randint(0, 4)
        while len(list(folder.glob("shard-*.json"))) < wanted and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.05))
        process.kill()
        process.join()
        if seen and (folder / "manifest.json").exists() and not (folder / "pending.json").exists():
            break  # a fast machine was done before the last kills
        seen.append(len(list(folder.glob("shard-*.json"))))
        damage = find_damage(folder)[0] if (folder / "pending.json").exists() else []
        assert damage == []
    assert seen == sorted(seen)
    assert any(0 < shards < 60 for shards in seen)
    embed(EmbeddingRequest(corpus, folder, model="tiny", shard_documents=10), encoder=encoder)
    store = EmbeddingStore.open(folder)
    assert find_damage(folder)[0] == []
    assert all_ids(store) == all_ids(straight) == [document.id for document in documents]
    np.testing.assert_array_equal(all_vectors(store), all_vectors(straight))
    assert not list(folder.glob(".partial-*"))


def test_two_ranks_make_the_same_store_as_one(tmp_path: Path, encoder: Encoder) -> None:
    corpus = str(write_lines(tmp_path / "c.jsonl", DOCUMENTS))
    embed(EmbeddingRequest(corpus, tmp_path / "one", model="tiny", shard_documents=10), encoder=encoder)
    ranks = [forked(corpus, tmp_path / "two", encoder, rank, 2) for rank in range(2)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join()
        assert rank.exitcode == 0
    one, two = EmbeddingStore.open(tmp_path / "one"), EmbeddingStore.open(tmp_path / "two")
    assert one.manifest.rows_fingerprint() == two.manifest.rows_fingerprint()
    np.testing.assert_array_equal(all_vectors(one), all_vectors(two))


@pytest.mark.skipif(not can_int8(), reason="this build of torch has no 8-bit products")
def test_int8_ranks_share_one_calibration(tmp_path: Path, tiny_encoder_dir: Path) -> None:
    corpus = str(write_lines(tmp_path / "c.jsonl", mixed_documents(40)))
    one, two = (Encoder.load(tiny_encoder_dir, precision="int8") for _ in range(2))
    embed(EmbeddingRequest(corpus, tmp_path / "one", model="tiny", precision="int8", shard_documents=10), encoder=one)
    ranks = [forked(corpus, tmp_path / "two", two, rank, 2, "int8") for rank in range(2)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join()
        assert rank.exitcode == 0
    stores = [EmbeddingStore.open(tmp_path / name) for name in ("one", "two")]
    assert stores[0].manifest.rows_fingerprint() == stores[1].manifest.rows_fingerprint()


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, Place()),
        ({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}, Place(3, 4, 1, 2)),
        ({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_SIZE": "2"}, Place(3, 4, 1, 2)),
        (
            {
                "SLURM_PROCID": "5",
                "SLURM_STEP_NUM_TASKS": "8",
                "SLURM_LOCALID": "1",
                "SLURM_STEP_TASKS_PER_NODE": "4(x2)",
            },
            Place(5, 8, 1, 4),
        ),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, Place()),  # a batch script, not a step of srun
    ],
)
def test_the_launcher_tells_the_place(environment: dict[str, str], expected: Place) -> None:
    assert Place.of_environment(environment) == expected


@pytest.mark.parametrize("world", [1, 2, 3, 7])
def test_every_shard_has_one_rank(world: int) -> None:
    taken = [shard for rank in range(world) for shard in Place(rank, world).shards(20)]
    assert sorted(taken) == list(range(20))


HOLD = """
import os, sys
from pathlib import Path
from mcontriever.retrieval.store.store_runs import writing
with writing(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])):
    print("held", flush=True)
    sys.stdin.read()
"""


ALONE, FIRST_OF_TWO, SECOND_OF_TWO = (0, 1), (0, 2), (1, 2)


@pytest.mark.parametrize(
    ("holder", "comer"),
    [(ALONE, ALONE), (ALONE, SECOND_OF_TWO), (FIRST_OF_TWO, ALONE), (FIRST_OF_TWO, FIRST_OF_TWO)],
)
def test_a_stranger_is_refused_and_told_who_writes(
    tmp_path: Path, holder: tuple[int, int], comer: tuple[int, int]
) -> None:
    with holding(tmp_path, holder) as process:
        expected = rf"another process \(pid {process.pid}\) is writing here"
        with pytest.raises(StoreError, match=expected), store_runs.writing(tmp_path, *comer):
            pass
    with store_runs.writing(tmp_path):
        pass


def test_the_ranks_of_one_launch_write_together(tmp_path: Path) -> None:
    with holding(tmp_path, FIRST_OF_TWO), store_runs.writing(tmp_path, *SECOND_OF_TWO):
        pass


@contextlib.contextmanager
def holding(folder: Path, place: tuple[int, int]) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the store, until it is killed."""
    command = [sys.executable, "-c", HOLD, str(folder), *map(str, place)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def test_ranks_cannot_share_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="not for a launch of 2 ranks"):
        embed(EmbeddingRequest("-", tmp_path / "s", model="bm25"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 400 KB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("tmpfs cannot be mounted here: " + mounted.stderr.decode())
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)  # its files are still mapped


def test_a_full_disk_is_one_clear_error_and_the_store_stays_whole(small_disk: Path, encoder: Encoder) -> None:
    message = r"no space left on the device[\s\S]*run the same command again"
    check_a_failed_append(small_disk / "s", encoder, contextlib.nullcontext(), message)


def test_a_file_that_may_not_grow_is_one_clear_error_too(tmp_path: Path, encoder: Encoder) -> None:
    message = r"larger than may be written here\n.*documents-00001\.parquet\n.*ulimit"
    check_a_failed_append(tmp_path / "small" / "s", encoder, files_limited_to(20_000), message)


@contextlib.contextmanager
def files_limited_to(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def check_a_failed_append(
    folder: Path, encoder: Encoder, limits: contextlib.AbstractContextManager[None], message: str
) -> None:
    store = make_store(folder.parent.parent / "s", DOCUMENTS, encoder, shard_documents=20)
    first = write_lines(folder.parent.parent / "a.jsonl", DOCUMENTS[:20])
    embed(EmbeddingRequest(str(first), folder, model="tiny"), encoder=encoder)
    chance = random.Random(0)
    long = [Document(f"x{n}", " ".join(str(chance.random()) for _ in range(100))) for n in range(400)]
    more = write_lines(folder.parent.parent / "b.jsonl", long)
    request = EmbeddingRequest(str(more), folder, mode="append", shard_documents=40)
    with pytest.raises(StoreError, match=message), limits:
        embed(request, encoder=encoder)
    assert not list(folder.glob(".partial-*"))
    assert all_ids(EmbeddingStore.open(folder)) == [document.id for document in DOCUMENTS[:20]]
    assert find_damage(folder)[0] == []
    np.testing.assert_array_equal(all_vectors(EmbeddingStore.open(folder)), all_vectors(store)[:20])


def test_vectors_that_cannot_fit_are_refused_before_the_work(small_disk: Path, encoder: Encoder) -> None:
    corpus = write_lines(small_disk.parent / "c.jsonl", [Document(str(n), str(n)) for n in range(8000)])
    with pytest.raises(StoreError, match=r"the vectors need 512\.0 KB, the device has \d+\.\d KB left"):
        embed(EmbeddingRequest(str(corpus), small_disk / "s", model="tiny", keeps_text=False), encoder=encoder)


def test_a_corpus_that_changes_every_day_is_replaced_every_day(tmp_path: Path) -> None:
    store = make_store(tmp_path / "s", DOCUMENTS[:10], None)
    corpus = tmp_path / "s.jsonl"
    request = EmbeddingRequest(str(corpus), store.folder, mode="replace")
    for day in range(3):
        write_lines(corpus, [*DOCUMENTS[:10], Document("d3", f"of day {day}"), Document(f"new{day}", "x")][4:])
        embed(request)
        embed(request)  # the second time there is nothing to do
        store = EmbeddingStore.open(store.folder)
        assert store.manifest.generation == day + 2
        assert live_ids(store).count("d3") == 1
        assert store.manifest.documents == 11 + day
    assert len({run.id for run in store.manifest.runs}) == 4
    assert find_damage(store.folder)[0] == []
