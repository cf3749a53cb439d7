"""language_means.py against loops; a centred search equals brute force over centred vectors."""

from pathlib import Path

import numpy as np
import pytest

from mcontriever import index as verb
from mcontriever.encoder import Encoder
from mcontriever.errors import StoreError
from mcontriever.retrieval import language_means
from mcontriever.retrieval.language_means import CentredVectors, compute_language_means, open_language_means
from mcontriever.retrieval.search_options import SearchOptions
from mcontriever.retrieval.searcher import Index
from mcontriever.retrieval.store import store_edits
from mcontriever.retrieval.store.embedding_store import EmbeddingStore
from mcontriever.texts.documents import Query
from tests.retrieval.small_corpora import all_ids, all_vectors, make_store, mixed_documents


@pytest.fixture
def store(tmp_path: Path, encoder: Encoder, tiny_encoder_dir: Path, monkeypatch: pytest.MonkeyPatch) -> EmbeddingStore:
    monkeypatch.setattr(language_means, "SMALLEST_GROUP", 5)
    documents = [*mixed_documents(60), *(d for d in mixed_documents(8, prefix="few-") if d.language == "ar")]
    documents = [*documents[:60], *[type(d)(d.id, d.text, d.title, "ur") for d in documents[60:]]]
    make_store(tmp_path / "s", documents, encoder, model=str(tiny_encoder_dir), dtype="fp32", shard_documents=25)
    store_edits.delete(tmp_path / "s", ["d0", "d5"])
    return EmbeddingStore.open(tmp_path / "s")


def naive_means(store: EmbeddingStore) -> dict[str, np.ndarray]:
    codes, names = store.languages
    vectors, live = all_vectors(store), store.live_N
    assert live is not None
    overall = vectors[live].mean(axis=0)
    means = {name: vectors[live & (codes == code)].mean(axis=0) for code, name in enumerate(names)}
    return {**means, "ur": overall, "*": overall}  # two Urdu documents are too few for a mean of their own


def test_means_and_centred_vectors(store: EmbeddingStore) -> None:
    means, expected = compute_language_means(store), naive_means(store)
    assert means.languages == ["ar", "en", "hi", "sw", "ur", "zh", "*"]
    for language, mean in zip(means.languages, means.means_LH, strict=True):
        np.testing.assert_allclose(mean, expected[language], atol=1e-5)
    codes, names = store.languages
    centred = all_vectors(store) - np.stack([expected[names[code]] for code in codes])
    vectors = CentredVectors(store, means)
    np.testing.assert_allclose(np.concatenate(list(vectors.pieces(10, 55))), centred[10:55], atol=1e-5)
    np.testing.assert_allclose(vectors.take(np.array([40, 3])), centred[[40, 3]], atol=1e-5)


def test_vectors_of_length_one_get_it_back(tmp_path: Path, tiny_encoder_dir: Path) -> None:
    cosine = Encoder.load(tiny_encoder_dir, similarity="cosine")
    store = make_store(tmp_path / "s", mixed_documents(60), cosine, dtype="fp32")
    centred = CentredVectors(store, compute_language_means(store)).take(np.arange(60))
    np.testing.assert_allclose(np.linalg.norm(centred, axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("queries_too", [False, True])
def test_centred_search_equals_brute_force(store: EmbeddingStore, encoder: Encoder, queries_too: bool) -> None:
    queries = [
        Query(str(number), document.text, document.language) for number, document in enumerate(mixed_documents(40))
    ]
    queries_QH = encoder.embed_queries([query.text for query in queries])
    documents = CentredVectors(store, compute_language_means(store)).take(np.arange(len(store)))
    index, ids = Index(store, encoder=encoder), np.array(all_ids(store))
    if queries_too:
        index.center_queries(queries)
        languages = np.array([query.language for query in queries])
        queries_QH = queries_QH - np.stack([queries_QH[languages == language].mean(axis=0) for language in languages])
    found = list(index.search_many(queries, options=SearchOptions(k=8, center_languages=True)))
    for query_H, hits in zip(queries_QH, found, strict=True):
        scores = np.where(store.live_N, documents @ query_H, -np.inf)
        np.testing.assert_allclose([hit.score for hit in hits], np.sort(scores)[::-1][:8], rtol=1e-3, atol=1e-5)
        own = [scores[np.flatnonzero(ids == hit.id)[-1]] for hit in hits]
        np.testing.assert_allclose([hit.score for hit in hits], own, rtol=1e-3, atol=1e-5)


def test_an_index_made_without_centring_is_not_searched_with_it(store: EmbeddingStore) -> None:
    verb.run(store.folder, kind="flat")
    with pytest.raises(
        StoreError, match="the flat index was made for calibrated search, and the search is --center-languages"
    ):
        Index(store).search("rain", index="flat", center_languages=True)
    exact = Index(store).search("rain", index="auto", center_languages=True)
    verb.run(store.folder, kind="flat", center_languages=True)
    flat = Index(store).search("rain", index="flat", center_languages=True)
    assert [hit.id for hit in flat] == [hit.id for hit in exact]


def test_means_are_kept_until_the_rows_change(store: EmbeddingStore) -> None:
    first = open_language_means(store)
    path = store.folder / "indexes" / "language-means" / "manifest.json"
    made = path.stat().st_mtime_ns
    np.testing.assert_array_equal(open_language_means(store).means_LH, first.means_LH)
    assert path.stat().st_mtime_ns == made
