"""calibrated_search.py against the rule in naive numpy, over a store of several languages; and what is asked of it."""

import copy
import math
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from mcontriever import index as make_index
from mcontriever.encoder import Encoder
from mcontriever.errors import ConfigError, ModelError, StoreError
from mcontriever.retrieval.calibrated_search import FAMILIAR
from mcontriever.retrieval.calibration import CalibratedVectors
from mcontriever.retrieval.dense_search import finder_by_language
from mcontriever.retrieval.lexical_evidence import LexicalEvidence
from mcontriever.retrieval.lexical_index import LexicalIndex
from mcontriever.retrieval.search_options import SearchOptions
from mcontriever.retrieval.searcher import Index
from mcontriever.retrieval.store import store_edits
from mcontriever.retrieval.store.embedding_store import EmbeddingStore
from mcontriever.retrieval.store_calibration import open_calibration
from mcontriever.retrieval.unanswered import DOUBT, Unanswered, open_unanswered
from mcontriever.retrieval.vector_search.exact import ExactSearch
from mcontriever.texts.documents import Document, Query
from tests.conftest import SENTENCES
from tests.retrieval.small_corpora import all_ids, all_vectors, make_store, mixed_documents
from tests.retrieval.test_calibration import without_language

DOCUMENTS = mixed_documents(90)
QUERIES = ["A small telescope shows the moons", "Mwokaji huchanganya unga", "4 7 22 31"]


def naive(store: EmbeddingStore, encoder: Encoder, query: str, *, hybrid: bool, prefer: float = 0) -> np.ndarray:
    """Scores of all rows."""
    codes_N, names = store.languages
    vectors_NH = all_vectors(store).astype(np.float64)
    calibration = open_calibration(store)
    mean_H = 0.5 * vectors_NH.mean(axis=0)
    own_means = np.stack([vectors_NH[codes_N == code].mean(axis=0) for code in range(len(names))])
    residual_NH = vectors_NH - own_means[codes_N]
    within = residual_NH.T @ residual_NH / len(store)
    means_NH = calibration.means_LH[codes_N].astype(np.float64)
    query_H = (
        without_language(encoder.embed_queries([query]).astype(np.float64), means_NH, 2 * mean_H, within)[0] - mean_H
    )
    query_H = query_H / math.sqrt(query_H @ within @ query_H / np.trace(within))
    deviations_N = calibration.rows(all_vectors(store), codes_N) @ query_H
    rule = store.evidence_rule
    scores = deviations_N * np.abs(deviations_N) / 2
    if rule.slope is not None:
        steep_N = np.abs(deviations_N) > rule.slope
        scores[steep_N] = (np.sign(deviations_N) * (rule.slope * np.abs(deviations_N) - rule.slope**2 / 2))[steep_N]
    if hybrid:
        index = LexicalIndex.build([[d.full_text for d in DOCUMENTS]])
        shares = LexicalEvidence.of(index, codes_N, len(names)).shares(index.tokenize([query])[0])
        best = np.array([shares.shares_N[codes_N == code].max() for code in range(len(names))])
        scores += rule.words * (shares.shares_N - rule.best * best[codes_N])
        scores += (prefer - rule.words * FAMILIAR) * shares.own_L[codes_N]
    return scores


def kept_unanswered(store: EmbeddingStore, way: str) -> Unanswered:
    """What a search has kept beside the store; it is not measured again."""

    def refuse(*_: Any) -> list[float]:
        raise AssertionError("measured again")

    return open_unanswered(store, way, refuse)


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("mode", ["dense", "hybrid"])
def test_hits_equal_the_rule(mixed_store: EmbeddingStore, encoder: Encoder, query: str, mode: str) -> None:
    expected = naive(mixed_store, encoder, query, hybrid=mode == "hybrid")
    hits = Index(mixed_store, encoder=encoder).search(query, k=10, mode=mode, depth=90)
    unanswered = kept_unanswered(mixed_store, "words" if mode == "hybrid" else "dense")
    by_id = dict(zip(all_ids(mixed_store), expected, strict=True))
    assert [hit.score for hit in hits] == pytest.approx(np.sort(expected)[::-1][:10].tolist(), abs=2e-3)
    for hit in hits:
        assert hit.score == pytest.approx(by_id[hit.id], abs=2e-3)
        deviations = (hit.score - math.log(90) - unanswered.mean) / unanswered.deviation
        assert hit.confidence == pytest.approx(1 / (1 + math.exp(DOUBT - deviations)))
        assert hit.parts["vectors"] == pytest.approx(hit.parts["calibrated"] * abs(hit.parts["calibrated"]) / 2)
        total = hit.parts["vectors"] + hit.parts.get("lexical", 0) + hit.parts["language"]
        assert hit.score == pytest.approx(total, abs=1e-4)
        document = next(one for one in DOCUMENTS if one.id == hit.id)
        cosine = encoder.embed_documents([document.full_text])[0] @ encoder.embed_queries([query])[0]
        assert hit.parts["dense"] == pytest.approx(cosine, rel=1e-3)


def test_the_user_s_preference_is_for_the_query_s_language(mixed_store: EmbeddingStore, encoder: Encoder) -> None:
    expected = naive(mixed_store, encoder, QUERIES[1], hybrid=True, prefer=2.5)
    hits = Index(mixed_store, encoder=encoder).search(QUERIES[1], mode="hybrid", depth=90, prefer=2.5)
    assert [hit.score for hit in hits] == pytest.approx(np.sort(expected)[::-1][:10].tolist(), abs=2e-3)
    dense = Index(mixed_store, encoder=encoder).search(Query("q", QUERIES[1], "sw"), k=18, mode="dense", prefer=100.0)
    assert {hit.language for hit in dense} == {"sw"}
    plain = Index(mixed_store, encoder=encoder).search(Query("q", QUERIES[1], "sw"), k=90, mode="dense")
    sure = {hit.id: hit.confidence for hit in plain}  # what the user prefers makes nothing surer
    assert [hit.confidence for hit in dense] == pytest.approx([sure[hit.id] for hit in dense])


def test_deleted_rows_and_other_languages_are_neither_found_nor_counted(tmp_path: Path, encoder: Encoder) -> None:
    make_store(tmp_path / "s", DOCUMENTS, encoder, dtype="fp32")
    index = Index.open(tmp_path / "s", encoder=encoder)
    first = index.search(QUERIES[0], mode="hybrid")[0]
    store_edits.delete(tmp_path / "s", [first.id])
    left = [document for document in DOCUMENTS if document.id != first.id]
    fresh = Index(make_store(tmp_path / "t", left, encoder, dtype="fp32"), encoder=encoder)
    after = Index.open(tmp_path / "s", encoder=encoder).search(QUERIES[0], k=20, mode="dense")
    expected = fresh.search(QUERIES[0], k=20, mode="dense")
    assert [hit.id for hit in after] == [hit.id for hit in expected]
    assert [hit.score for hit in after] == pytest.approx([hit.score for hit in expected], abs=2e-3)
    hits = Index.open(tmp_path / "s", encoder=encoder).search(QUERIES[0], k=90, mode="hybrid", languages=("en", "sw"))
    assert {hit.language for hit in hits} == {"en", "sw"}
    assert first.id not in {hit.id for hit in hits}


def test_passages_rank_as_their_documents(tmp_path: Path, encoder: Encoder) -> None:
    long = [Document(f"{d.id}+", f"{d.text} {d.text} {d.text}", d.title, d.language) for d in DOCUMENTS[:40]]
    store = make_store(tmp_path / "s", long, encoder, dtype="fp32", passage_words=12, passage_overlap=3)
    hits = Index(store, encoder=encoder).search(QUERIES[0], k=40, mode="hybrid")
    assert len(hits) == len({hit.id for hit in hits}) == 40
    shares = LexicalEvidence.of(
        LexicalIndex.build([store.passages_of(range(len(store)))]), store.languages[0], len(store.languages[1])
    ).shares(LexicalIndex.build([["x"]]).tokenize([QUERIES[0]])[0])
    ids = np.array(all_ids(store))
    for hit in hits[:10]:
        assert hit.parts["bm25"] == pytest.approx(shares.shares_N[ids == hit.id].max(), rel=1e-4)


def test_what_is_merged_how(tmp_path: Path, mixed_store: EmbeddingStore, encoder: Encoder) -> None:
    index = Index(mixed_store, encoder=encoder)
    raw = index.search(QUERIES[0], merge="raw")
    assert "calibrated" not in raw[0].parts
    assert raw[0].confidence is None
    assert "calibrated" not in index.search(QUERIES[0], mode="hybrid", fusion="rrf")[0].parts
    assert "calibrated" not in index.search(QUERIES[0], center_languages=True)[0].parts
    assert "calibrated" in index.search(QUERIES[0])[0].parts
    english = [document for document in DOCUMENTS if document.language == "en"]
    alone = Index(make_store(tmp_path / "s", english, encoder), encoder=encoder)
    assert "calibrated" not in alone.search(QUERIES[0])[0].parts
    assert "calibrated" in alone.search(QUERIES[0], mode="hybrid")[0].parts
    with pytest.raises(ConfigError, match="a calibrated merge has its own weights"):
        SearchOptions(merge="calibrated", fusion="rrf")


def test_nothing_relevant(mixed_store: EmbeddingStore, encoder: Encoder) -> None:
    index = Index(mixed_store, encoder=encoder)
    hits = index.search(QUERIES[0], k=90)
    below, above = sorted({round(hit.confidence, 9) for hit in hits if hit.confidence is not None})[-9:-7]
    middle = (below + above) / 2
    kept = index.search(QUERIES[0], k=90, min_confidence=middle)
    assert [hit.id for hit in kept] == [hit.id for hit in hits if (hit.confidence or 0) >= middle]
    assert index.search(QUERIES[0], min_confidence=1.0) == []


@pytest.mark.parametrize("languages", [[""], ["", "sw"], ["en"] * 9 + ["zz"]], ids=["none", "some", "one of one"])
def test_odd_languages(tmp_path: Path, encoder: Encoder, languages: list[str]) -> None:
    documents = [Document(d.id, d.text, d.title, languages[n % len(languages)]) for n, d in enumerate(DOCUMENTS[:10])]
    hits = Index(make_store(tmp_path / "s", documents, encoder), encoder=encoder).search(QUERIES[0], mode="hybrid")
    assert len(hits) == 10
    assert all(math.isfinite(hit.score) for hit in hits)


@pytest.mark.parametrize("mode", ["dense", "hybrid"])
@pytest.mark.parametrize("weight", [None, 0.0], ids=["all vectors equal", "zero vectors"])
def test_vectors_that_say_nothing(tmp_path: Path, encoder: Encoder, mode: Any, weight: float | None) -> None:
    text = "The same text in every document"
    if weight is not None:
        encoder = copy.deepcopy(encoder)
        for parameter in encoder.parameters():
            parameter.data.fill_(weight)
    documents = [Document(str(n), text, "", ("en", "sw", "")[n % 3]) for n in range(9)]
    index = Index(make_store(tmp_path / "s", documents, encoder, detects_languages=False), encoder=encoder)
    for query in (text, QUERIES[1]):
        hits = index.search(query, mode=mode, merge="calibrated")
        assert sorted(hit.id for hit in hits) == [document.id for document in documents]
        assert all(math.isfinite(hit.score) and 0 < (hit.confidence or 0) < 1 for hit in hits)
        assert all(hit.parts["calibrated"] == 0 for hit in hits)


def test_queries_and_vectors_that_are_no_numbers(tmp_path: Path, encoder: Encoder) -> None:
    store = make_store(tmp_path / "s", DOCUMENTS[:10], encoder)
    broken = copy.deepcopy(encoder)
    index = Index(store, encoder=broken)
    assert index.encoder is broken
    for parameter in broken.parameters():
        parameter.data.fill_(math.nan)
    with pytest.raises(ModelError, match="the embeddings of the queries hold NaN or infinity"):
        index.search(QUERIES[0], merge="calibrated")


@pytest.mark.parametrize("kind", ["flat-int8", "flat", "hnsw", "ivf-sq"])
def test_an_index_finds_what_exact_search_finds(tmp_path: Path, encoder: Encoder, kind: Any) -> None:
    arabic = " ".join(SENTENCES["ar"])
    named_wrongly = [Document(f"w{n}", f"{arabic} {n}", "", "en") for n in range(6)]
    store = make_store(tmp_path / "s", [*DOCUMENTS, *named_wrongly], encoder, dtype="fp32")
    assert not np.array_equal(store.text_languages[0], store.languages[0])
    exact = Index(store, encoder=encoder).search(QUERIES[0], mode="hybrid", index="exact")
    make_index.run(store.folder, kind=kind)
    if kind == "flat":
        made_of = faiss.read_index(str(store.folder / "indexes" / kind / "index.faiss")).reconstruct_n()
        vectors = CalibratedVectors(store, store.text_languages[0], open_calibration(store))
        np.testing.assert_allclose(made_of, vectors.take(np.arange(len(store))), atol=1e-3)
    index = Index.open(store.folder, encoder=encoder)
    found = index.search(QUERIES[0], mode="hybrid", index=kind)
    assert [hit.score for hit in found] == pytest.approx([hit.score for hit in exact], abs=1e-3)
    with pytest.raises(StoreError, match=f"the {kind} index was made for calibrated search, and the search is --merge"):
        index.search(QUERIES[0], index=kind, merge="raw")


def test_a_finder_over_raw_vectors_is_asked_for_every_language(mixed_store: EmbeddingStore, encoder: Encoder) -> None:
    calibration = open_calibration(mixed_store)
    vectors = CalibratedVectors(mixed_store, mixed_store.languages[0], calibration)
    find = finder_by_language(ExactSearch(mixed_store).search, vectors, None)
    queries_QH = calibration.queries(encoder.embed_queries(QUERIES))
    scores, rows = find(queries_QH, 10, None)
    expected_scores, expected = ExactSearch(vectors).search(queries_QH, 10)
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_allclose(scores, expected_scores, atol=1e-4)
