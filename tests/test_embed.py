"""`mcontriever embed`, `verify`, `delete` and `index` as a user types them."""

import gzip
import io
from pathlib import Path

import pytest

from mcontriever.embed import mode_of, named_fields
from mcontriever.errors import ConfigError
from mcontriever.retrieval.embedding.launching import Place
from mcontriever.retrieval.store.embedding_store import EmbeddingStore
from tests.conftest import RunCli
from tests.retrieval.small_corpora import all_ids, mixed_documents, write_lines

DOCUMENTS = mixed_documents(300)


def test_empty_documents_do_not_enter_the_estimate(tmp_path: Path, tiny_encoder_dir: Path, cli: RunCli) -> None:
    """Every second one is empty, as the first of a sample of every second would be."""
    corpus = tmp_path / "c.jsonl"
    texts = ["", "a river"] * 4
    corpus.write_text("".join(f'{{"id": "{number}", "text": "{text}"}}\n' for number, text in enumerate(texts)))
    done = cli("embed", corpus, "--model", tiny_encoder_dir, "--output", tmp_path / "store")
    assert done.returncode == 0, done.stderr
    assert "; disk: 0 bytes" not in done.stderr
    assert "; disk: " in done.stderr


def test_a_corpus_becomes_a_store_that_is_checked_changed_and_indexed(
    tmp_path: Path, tiny_encoder_dir: Path, cli: RunCli
) -> None:
    corpus, store = write_lines(tmp_path / "c.jsonl.gz", DOCUMENTS[:150]), tmp_path / "store"
    done = cli("embed", corpus, "--model", tiny_encoder_dir, "--output", store, "--passage-words", 10)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "150 documents, " in done.stderr
    assert "; disk: " in done.stderr
    assert "; memory: " in done.stderr
    assert "; time: about " in done.stderr
    assert f"{store}: 150 documents in " in done.stderr

    done = cli("verify", store)
    assert done.returncode == 0
    assert "2 files are whole; 150 documents in " in done.stderr
    done = cli("delete", store, "d1", "d2", "nobody", "--compact", "--missing-ok")
    assert "deleted 2 documents" in done.stderr
    assert "1 ids are not in the store: nobody" in done.stderr
    assert "148 documents" in done.stderr
    done = cli("index", store, "--kind", "ivf-pq")
    assert done.returncode == 0, done.stderr
    assert "ivf-pq: recall@10 " in done.stderr

    path = next(store.glob("vectors-*.npy"))
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    done = cli("verify", store)
    assert done.returncode == 2
    assert f"error: 1 of 2 files are damaged:\n  {path.name}: " in done.stderr
    done = cli("verify", store, "--repair")
    assert done.returncode == 0, done.stderr
    assert f"made again: {path.name}" in done.stderr


def test_standard_input_and_several_processes(tmp_path: Path, cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = write_lines(tmp_path / "c.jsonl.gz", DOCUMENTS)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(gzip.decompress(corpus.read_bytes()))))
    with monkeypatch.context() as here:
        here.setattr(Place, "device", lambda *_: pytest.fail("without a model no device is asked for: it takes torch"))
        piped = cli("embed", "-", "--model", "bm25", "--output", tmp_path / "piped")
    assert piped.returncode == 0, piped.stderr
    assert not list((tmp_path / "piped").glob("spooled*"))
    shared = cli(
        "embed", corpus, "--model", "bm25", "--output", tmp_path / "shared", "--processes", 2, "--shard-documents", 25
    )
    assert shared.returncode == 0, shared.stderr
    expected = [document.id for document in DOCUMENTS]
    assert all_ids(EmbeddingStore.open(tmp_path / "piped")) == expected
    assert all_ids(EmbeddingStore.open(tmp_path / "shared")) == expected
    assert len(EmbeddingStore.open(tmp_path / "shared").manifest.shards) == 12
    again = cli(
        "embed", corpus, "--model", "bm25", "--output", tmp_path / "shared", "--processes", 2, "--shard-documents", 25
    )
    assert "is complete already: 300 documents" in again.stderr


def test_mistakes_are_one_message(tmp_path: Path, cli: RunCli) -> None:
    corpus = write_lines(tmp_path / "c.jsonl", [*DOCUMENTS[:5], DOCUMENTS[3]])
    done = cli("embed", corpus, "--model", "bm25", "--output", tmp_path / "s", "--processes", 2)
    assert done.returncode == 2
    assert done.stderr.count("error:") == 1
    assert f"the id 'd3' is a duplicate: first at {corpus}:4\n  where: {corpus}:6\n  fix: " in done.stderr
    done = cli("embed", tmp_path / "none.jsonl", "--model", "bm25", "--output", tmp_path / "s")
    assert done.stderr.startswith("error: no such file")


def test_ways_to_add_and_names_of_fields() -> None:
    assert mode_of(append=False, replace=False) == "new"
    assert mode_of(append=True, replace=False) == "append"
    assert mode_of(append=False, replace=True) == "replace"
    with pytest.raises(ConfigError, match="--append and --replace were both given"):
        mode_of(append=True, replace=True)
    assert named_fields(["id=url", "text=a=b"]) == {"id": "url", "text": "a=b"}
    with pytest.raises(ConfigError, match="--fields text: expected OURS=THEIRS"):
        named_fields(["text"])
