"""searcher.py: dense, BM25, hybrid and passages equal naive references; wrong requests get a clear error."""

import math
from pathlib import Path

import numpy as np
import pytest

from mcontriever.encoder import Encoder
from mcontriever.errors import ConfigError, DataError, ModelError, StoreError
from mcontriever.retrieval.lexical_index import LexicalIndex, subword_tokenizer, tokenize_words
from mcontriever.retrieval.search_options import SearchOptions
from mcontriever.retrieval.searcher import Index
from mcontriever.retrieval.store.embedding_store import EmbeddingStore
from mcontriever.texts.documents import Document, Query
from tests.retrieval.small_corpora import all_ids, all_vectors, make_store, mixed_documents

DOCUMENTS = mixed_documents(90)
BY_ID = {document.id: document for document in DOCUMENTS}
QUERY = "A small telescope shows the moons"


def test_six_lines_from_texts_to_hits(encoder: Encoder, sentences: dict[str, list[str]]) -> None:
    texts = [text for group in sentences.values() for text in group]
    hits = Index.build(encoder, texts).search("rain", k=3, merge="raw")
    scores = encoder.embed_documents(texts) @ encoder.embed_queries(["rain"])[0]
    assert [hit.rank for hit in hits] == [1, 2, 3]
    assert [hit.text for hit in hits] == [texts[int(hit.id)] for hit in hits]
    np.testing.assert_allclose([hit.score for hit in hits], np.sort(scores)[::-1][:3], rtol=1e-3)


def test_dense_hits_equal_brute_force_with_all_their_fields(mixed_store: EmbeddingStore, encoder: Encoder) -> None:
    scores = encoder.embed_documents([d.full_text for d in DOCUMENTS]) @ encoder.embed_queries([QUERY])[0]
    score_of = dict(zip(BY_ID, scores, strict=True))
    hits = Index(mixed_store, encoder=encoder).search(QUERY, merge="raw")
    np.testing.assert_allclose([hit.score for hit in hits], np.sort(scores)[::-1][:10], rtol=1e-5)
    np.testing.assert_allclose([hit.score for hit in hits], [score_of[hit.id] for hit in hits], rtol=1e-5)
    for hit in hits:
        document = BY_ID[hit.id]
        assert (hit.title, hit.text, hit.language) == (document.title, document.text, document.language)


def test_hybrid_equals_fusing_the_two_by_hand(mixed_store: EmbeddingStore, encoder: Encoder) -> None:
    dense = [hit.id for hit in Index(mixed_store, encoder=encoder).search(QUERY, k=20, merge="raw")]
    _, rows = LexicalIndex.build([[d.full_text for d in DOCUMENTS]]).search([QUERY], 20)
    lexical = [DOCUMENTS[row].id for row in rows[0] if row >= 0]
    fused = {
        name: sum(1 / (61 + ranking.index(name)) for ranking in (dense, lexical) if name in ranking)
        for name in {*dense, *lexical}
    }
    hits = Index(mixed_store, encoder=encoder).search(QUERY, k=10, mode="hybrid", depth=20, fusion="rrf")
    assert [hit.score for hit in hits] == pytest.approx(sorted(fused.values(), reverse=True)[:10])
    for hit in hits:
        assert hit.score == pytest.approx(fused[hit.id])
        assert hit.parts["fused"] == hit.score
        assert hit.parts.get("dense_rank", 0) == (dense.index(hit.id) + 1 if hit.id in dense else 0)
        assert hit.parts.get("bm25_rank", 0) == (lexical.index(hit.id) + 1 if hit.id in lexical else 0)


def test_a_blend_equals_adding_cosines_and_shares_by_hand(tmp_path: Path, encoder: Encoder) -> None:
    """Of what BM25 could give: the IDF of each term, as the formula has it, also of those that nobody has."""
    cosine = Encoder.load(encoder.save(tmp_path / "model"), similarity="cosine", normalize=True)
    index = Index.build(cosine, DOCUMENTS)
    query = f"{QUERY} unheardof"
    texts = [document.full_text for document in DOCUMENTS]
    cosines = cosine.embed_documents(texts) @ cosine.embed_queries([query])[0]
    squares = np.zeros(len(texts))
    for terms in (tokenize_words, subword_tokenizer(cosine.tokenizer)):
        of_texts = [set(terms([text])[0]) for text in texts]
        most = 0.0
        for term in terms([query])[0]:
            count = sum(term in of_text for of_text in of_texts)
            most += math.log(1 + (len(texts) - count + 0.5) / (count + 0.5))
        scores, rows = LexicalIndex.build([texts], terms).search([query], len(texts))
        found = rows[0] >= 0
        squares[rows[0][found]] += (scores[0][found] / most) ** 2 / 2
    expected = 0.24 * cosines + 0.76 * np.sqrt(squares)
    hits = index.search(query, k=90, mode="hybrid", terms="both", depth=90, merge="raw")
    assert [hit.score for hit in hits] == pytest.approx(sorted(expected, reverse=True), abs=2e-4)
    by_id = {document.id: score for document, score in zip(DOCUMENTS, expected, strict=True)}
    assert all(hit.score == pytest.approx(by_id[hit.id], abs=2e-4) for hit in hits)
    assert {"dense", "bm25 words", "bm25 subwords"} <= hits[0].parts.keys()


def test_weighted_fusion_of_one_part_is_that_part(mixed_store: EmbeddingStore, encoder: Encoder) -> None:
    index = Index(mixed_store, encoder=encoder)
    weighted = index.search(QUERY, k=5, mode="hybrid", fusion="weighted", dense_weight=1.0)
    assert [hit.id for hit in weighted] == [hit.id for hit in index.search(QUERY, k=5, merge="raw")]
    weighted = index.search(QUERY, k=2, mode="hybrid", fusion="weighted", dense_weight=0.0)
    assert [hit.id for hit in weighted] == [hit.id for hit in index.search(QUERY, k=2, mode="bm25")]


@pytest.mark.parametrize("mode", ["dense", "bm25", "hybrid"])
def test_only_the_languages_asked_for(mixed_store: EmbeddingStore, encoder: Encoder, mode: str) -> None:
    hits = Index(mixed_store, encoder=encoder).search("miezi 月 moons", k=90, mode=mode, languages=("sw", "zh"))
    assert {hit.language for hit in hits} <= {"sw", "zh"}
    assert len(hits) == 36 if mode != "bm25" else 0 < len(hits) < 36


def test_a_language_stands_for_its_kinds_and_an_unknown_one_is_named(tmp_path: Path) -> None:
    documents = [
        Document("1", "rain", "", "zh-Hans"),
        Document("2", "rain", "", "zh_TW"),
        Document("3", "rain", "", "sw"),
    ]
    index = Index(make_store(tmp_path / "s", documents, None))
    assert [hit.id for hit in index.search("rain", languages=("zh",))] == ["1", "2"]
    assert [hit.id for hit in index.search("rain", languages=("ZH-tw",))] == ["2"]
    with pytest.raises(
        DataError, match=r"in the language 'sv'; the store's languages are sw, zh-Hans, zh_TW[\s\S]*mean sw\?"
    ):
        index.search("rain", languages=("zh", "sv"))


def test_documents_are_found_by_their_best_passage(tmp_path: Path, encoder: Encoder) -> None:
    long = [
        Document(f"long{n}", " ".join(d.text for d in DOCUMENTS[n : n + 12]), DOCUMENTS[n].title, "en")
        for n in range(0, 60, 4)
    ]
    store = make_store(tmp_path / "s", long, encoder, dtype="fp32", passage_words=12, passage_overlap=4)
    assert len(store) > 100
    scores = all_vectors(store) @ encoder.embed_queries([QUERY])[0]
    ids, texts = all_ids(store), [row["text"] for row in store.rows_shown(np.arange(len(store)), ["text"])]
    best = {name: max(s for s, other in zip(scores, ids, strict=True) if other == name) for name in ids}
    expected = sorted(best, key=lambda name: -best[name])
    hits = Index(store, encoder=encoder).search(QUERY, k=12, merge="raw")
    assert [hit.id for hit in hits] == expected[:12]
    for hit in hits:
        assert hit.score == pytest.approx(best[hit.id], rel=1e-4)
        assert hit.text == texts[int(np.argmax(np.where(np.array(ids) == hit.id, scores, -np.inf)))]
    assert len(Index(store, encoder=encoder).search(QUERY, k=99)) == len(long)
    assert len({hit.id for hit in Index(store, encoder=encoder).search(QUERY, k=99, mode="hybrid")}) == len(long)


def test_many_queries_are_those_one_by_one(mixed_store: EmbeddingStore, encoder: Encoder) -> None:
    index = Index(mixed_store, encoder=encoder)
    queries = [Query(document.id, document.text) for document in DOCUMENTS[:7]]
    together = list(index.search_many(iter(queries), options=SearchOptions(k=3, mode="hybrid")))
    alone = [index.search(query, k=3, mode="hybrid") for query in queries]
    assert [[hit.id for hit in hits] for hits in together] == [[hit.id for hit in hits] for hits in alone]


def test_odd_questions_have_a_defined_answer(mixed_store: EmbeddingStore, encoder: Encoder) -> None:
    index = Index(mixed_store, encoder=encoder)
    assert len(index.search(QUERY, k=1000)) == 90
    endless = index.search(("telescope " * 10_000)[:100_000], k=3, mode="hybrid")
    assert len(endless) == 3
    assert index.search("qqqqq", mode="bm25") == []
    with pytest.raises(DataError, match="query '0' is empty"):
        index.search(" \n")
    with pytest.raises(ConfigError, match="k 0 and depth 100"):
        index.search(QUERY, k=0)
    with pytest.raises(ConfigError, match=r"a dense weight of 1\.5"):
        index.search(QUERY, dense_weight=1.5)


def test_a_store_of_another_encoder_is_refused(mixed_store: EmbeddingStore, tiny_encoder_dir: Path) -> None:
    other = Encoder.load(tiny_encoder_dir, max_length=50)
    with pytest.raises(StoreError, match=r"another encoder[\s\S]*not the one given[\s\S]*max_length 128 against 50"):
        Index(mixed_store, encoder=other).search(QUERY)


def test_an_encoder_that_moved_is_found_again_by_name(tmp_path: Path, encoder: Encoder, tiny_encoder_dir: Path) -> None:
    store = make_store(tmp_path / "s", DOCUMENTS[:9], encoder, model=str(tmp_path / "gone"))
    with pytest.raises(ModelError, match="give the current path of the store's encoder: --model NAME"):
        Index(store).search(QUERY)
    assert len(Index(store, model=str(tiny_encoder_dir)).search(QUERY)) == 9


def test_stores_without_vectors_or_texts(tmp_path: Path, encoder: Encoder) -> None:
    lexical = Index(make_store(tmp_path / "a", DOCUMENTS[:9], None))
    assert lexical.search("telescope", k=1)[0].language == "en"
    with pytest.raises(StoreError, match=r"the store has no vectors \(it was made with --model bm25\)"):
        lexical.search("telescope", mode="hybrid")
    bare = Index(make_store(tmp_path / "b", DOCUMENTS[:9], encoder, keeps_text=False), encoder=encoder)
    assert bare.search("telescope", k=2)[0].text == ""
    with pytest.raises(StoreError, match="BM25 needs the texts"):
        bare.search("telescope", mode="bm25")
