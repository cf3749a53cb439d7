"""Milvus's own BM25 in hybrid search, against the package's: the same terms, so nearly the same ranking."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mcontriever import index as verb
from mcontriever.encoder import Encoder
from mcontriever.retrieval.language_filter import rows_in_languages
from mcontriever.retrieval.lexical_search import LexicalSearch
from mcontriever.retrieval.searcher import Index
from mcontriever.retrieval.store import derived, store_edits
from mcontriever.retrieval.store.embedding_store import EmbeddingStore
from mcontriever.retrieval.vector_search.milvus_collection import MOST_TERMS
from mcontriever.retrieval.vector_search.milvus_words import MilvusWords
from mcontriever.texts.documents import Document, Query
from tests.retrieval.small_corpora import make_store, mixed_documents

pytest.importorskip("milvus_lite")
from pymilvus import MilvusClient
from pymilvus.exceptions import MilvusException

QUESTIONS = [
    Query("0", "Which RIVER reaches the sea?", "en"),
    Query("1", "الخباز والماء", "ar"),
    Query("2", "这条河流入大海", "zh"),
    Query("3", "darubini ndogo", "sw"),
    Query("4", "नदी", "hi"),
    Query("5", "zyxw", "en"),
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder, tiny_encoder_dir: Path) -> EmbeddingStore:
    folder = tmp_path_factory.mktemp("words")
    documents = [*mixed_documents(60), Document("empty", "", "A title: a river", "en"), Document("!", "...", "", "en")]
    made = make_store(folder / "s", documents, encoder, model=str(tiny_encoder_dir), shard_documents=25)
    store_edits.delete(made.folder, ["d0"])
    verb.run(made.folder, kind="milvus", uri=str(folder / "lite.db"))
    return EmbeddingStore.open(made.folder)


def test_words_are_found_in_every_script_as_by_the_packages_own(store: EmbeddingStore) -> None:
    ours = LexicalSearch.open(store)
    milvus = MilvusWords.open(store)
    assert milvus is not None
    for allowed in (None, rows_in_languages(store, ["sw", "zh"])):
        _, wanted = ours.ask(QUESTIONS).best(100, allowed)
        scores, rows = milvus.ask(QUESTIONS).best(100, allowed)
        for number, question in enumerate(QUESTIONS):
            found = rows[number][rows[number] >= 0].tolist()
            assert set(found) == set(wanted[number][wanted[number] >= 0].tolist()), question.text
            assert 0 not in found, "a deleted row"
            assert (np.diff(scores[number][: len(found)]) <= 0).all()
        assert (rows[5] == -1).all()


def test_of_a_very_long_text_the_first_words_count(
    tmp_path: Path, encoder: Encoder, tiny_encoder_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = " ".join(f"w{number}" for number in range(MOST_TERMS + 5))
    made = make_store(
        tmp_path / "s", [Document("long", text), Document("other", "x")], encoder, model=str(tiny_encoder_dir)
    )
    verb.run(made.folder, kind="milvus", uri=str(tmp_path / "lite.db"))
    assert "1 texts have more words than Milvus takes (7,281); their beginning counts" in caplog.text
    milvus = MilvusWords.open(EmbeddingStore.open(made.folder))
    assert milvus is not None
    last, beyond = (Query("0", f"w{number}") for number in (MOST_TERMS - 1, MOST_TERMS))
    assert (milvus.ask([last, beyond]).best(2)[1] >= 0).sum(axis=1).tolist() == [1, 0]


def test_scores_of_given_rows_are_those_of_the_search(store: EmbeddingStore) -> None:
    milvus = MilvusWords.open(store)
    assert milvus is not None
    answer = milvus.ask(QUESTIONS[:1])
    scores, rows = answer.best(5)
    without = rows_in_languages(store, ["zh"]).nonzero()[0][:1]
    given = answer.scores_of(np.concatenate([rows, without[None], [[-1]]], axis=1))
    np.testing.assert_allclose(given[:, :5], scores, rtol=1e-5)
    assert given[0, 5] == 0
    assert np.isnan(given[0, 6])


def test_hybrid_search_says_whose_words_it_uses(
    store: EmbeddingStore, encoder: Encoder, caplog: pytest.LogCaptureFixture
) -> None:
    index = Index(store, encoder=encoder)
    with caplog.at_level(logging.INFO, logger="mcontriever"):
        hits = index.search(QUESTIONS[0], mode="hybrid", merge="raw", index="milvus")
    assert "words: by Milvus's own BM25" in caplog.text
    assert any("milvus_bm25" in hit.parts for hit in hits)
    assert any("dense" in hit.parts for hit in hits)
    by_words = index.search(QUESTIONS[0], mode="bm25", index="milvus")
    assert {hit.id for hit in by_words} == {hit.id for hit in index.search(QUESTIONS[0], mode="bm25")}
    for asked in ({"fusion": "blend"}, {"terms": "both"}, {"merge": "calibrated"}, {"index": "exact"}):
        options: dict[str, Any] = {"mode": "hybrid", "index": "milvus", "merge": "raw", **asked}
        parts = index.search(QUESTIONS[0], **options)[0].parts
        assert "milvus_bm25" not in parts
        assert any(name.startswith("bm25") for name in parts)


def test_calibrated_search_over_milvus_uses_our_words_and_says_why(
    store: EmbeddingStore, encoder: Encoder, caplog: pytest.LogCaptureFixture
) -> None:
    index = Index(store, encoder=encoder)
    with caplog.at_level(logging.INFO, logger="mcontriever"):
        for question in QUESTIONS:
            found, exact = (index.search(question, mode="hybrid", index=kind, k=20) for kind in ("milvus", "exact"))
            np.testing.assert_allclose([hit.score for hit in found], [hit.score for hit in exact], rtol=1e-3, atol=1e-3)
            parts = {hit.id: hit.parts["bm25"] for hit in found}
            for hit in exact:  # equal texts may change places
                assert parts.get(hit.id, hit.parts["bm25"]) == pytest.approx(hit.parts["bm25"], abs=1e-6)
    assert caplog.text.count("because calibrated search weighs a word by how rare it is in each language") == 1
    assert "--merge raw takes Milvus's" in caplog.text
    assert "by Milvus's own BM25" not in caplog.text


def test_a_milvus_without_bm25_gets_no_words_and_search_uses_ours(
    tmp_path: Path,
    encoder: Encoder,
    tiny_encoder_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A store without texts, and a Milvus that refuses the function, as servers before 2.5 do."""
    made = make_store(tmp_path / "s", mixed_documents(20), encoder, model=str(tiny_encoder_dir), keeps_text=False)
    verb.run(made.folder, kind="milvus", uri=str(tmp_path / "lite.db"))
    assert (derived.manifest_of(made, "milvus") or {})["words"] is None
    made = make_store(tmp_path / "t", mixed_documents(20), encoder, model=str(tiny_encoder_dir))
    create = MilvusClient.create_collection

    def refuse(client: Any, name: str, *, schema: Any, **settings: Any) -> None:
        if schema.functions:
            raise MilvusException(message="function type BM25 is not supported")
        create(client, name, schema=schema, **settings)

    monkeypatch.setattr(MilvusClient, "create_collection", refuse)
    with caplog.at_level(logging.INFO, logger="mcontriever"):
        verb.run(made.folder, kind="milvus", uri=str(tmp_path / "lite.db"))
        assert "without words, for which this Milvus has no BM25" in caplog.text
        index = Index(EmbeddingStore.open(made.folder), encoder=encoder)
        hits = index.search("river", mode="hybrid", merge="raw", index="milvus")
    assert "words: by this package's BM25, because the Milvus collection holds none" in caplog.text
    assert any("bm25" in hit.parts for hit in hits)
