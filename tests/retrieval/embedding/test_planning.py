"""planning.py: what makes two requests one, so that a second run resumes or finds nothing to do."""

from pathlib import Path

import pytest

from mcontriever.errors import StoreError
from mcontriever.retrieval.embedding.embedding_run import EmbeddingRequest, embed
from mcontriever.retrieval.store.store_manifest import read_manifest
from tests.retrieval.small_corpora import mixed_documents, write_lines


def test_a_corpus_is_the_same_however_its_path_is_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = write_lines(tmp_path / "data" / "c.jsonl", mixed_documents(12))
    store = tmp_path / "store"
    embed(EmbeddingRequest(str(corpus), store, model="bm25"))
    before = read_manifest(store)
    monkeypatch.chdir(tmp_path / "data")
    for typed in ("c.jsonl", "./c.jsonl", "../data/c.jsonl"):
        embed(EmbeddingRequest(typed, store, model="bm25"))
        assert read_manifest(store) == before
    write_lines(tmp_path / "data" / "other.jsonl", mixed_documents(12))
    with pytest.raises(StoreError, match="a store of 12 documents is here already"):
        embed(EmbeddingRequest("other.jsonl", store, model="bm25"))
