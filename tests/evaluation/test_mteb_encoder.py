from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mteb
import numpy as np
import pytest
from datasets import Dataset
from mteb.models import EncoderProtocol, SearchProtocol
from mteb.types import PromptType
from torch.utils.data import DataLoader

from mcontriever.encoder import Encoder
from mcontriever.errors import ModelError
from mcontriever.evaluation import mteb_search
from mcontriever.evaluation.mteb_combined import CombinedMtebSearch, TextSearch
from mcontriever.evaluation.mteb_encoder import MtebEncoder, combined_meta, model_meta
from mcontriever.evaluation.mteb_search import EncoderSearch, document_texts
from tests.conftest import SENTENCES

CONTEXT: dict[str, Any] = {
    "task_metadata": mteb.get_task("NFCorpus").metadata,
    "hf_split": "test",
    "hf_subset": "default",
    "encode_kwargs": {},
}


@pytest.fixture(scope="module")
def corpus() -> Dataset:
    rows = [(language, text) for language, texts in SENTENCES.items() for text in texts]
    return Dataset.from_dict(
        {
            "id": [f"d{i}" for i in range(len(rows))],
            "title": [f"Title {i}" if i % 3 == 0 else "" for i in range(len(rows))],
            "text": [text for _, text in rows],
            "language": [language for language, _ in rows],
        }
    )


@pytest.fixture(scope="module")
def queries() -> Dataset:
    texts = ["river and hills", "الماء والملح", "miezi minne", "雨水"]
    columns = {"id": [f"q{i}" for i in range(4)], "text": texts, "language": ["en", "ar", "sw", "zh"]}
    return Dataset.from_dict(columns)


@pytest.fixture(scope="module", params=["dot", "cosine"])
def encoder(request: pytest.FixtureRequest, tiny_encoder_dir: Path) -> Encoder:
    """Similarity and prefixes as a model was saved with; both must reach MTEB."""
    return Encoder.load(tiny_encoder_dir, similarity=request.param, query_prefix="query: ", document_prefix="passage: ")


def brute_force(encoder: Encoder, corpus: Dataset, queries: Dataset) -> np.ndarray:
    documents = encoder.embed_documents(document_texts(corpus))
    return encoder.embed_queries(list(queries["text"])) @ documents.T


def search(model: Any, corpus: Dataset, queries: Dataset, top_k: int = 100) -> dict[str, dict[str, float]]:
    model.index(corpus, **CONTEXT)
    return model.search(queries, top_k=top_k, **CONTEXT)


def test_our_encoder_meets_mtebs_protocol_with_its_own_prefixes(encoder: Encoder) -> None:
    model = MtebEncoder(encoder, "tiny")
    assert isinstance(model, EncoderProtocol)
    assert isinstance(EncoderSearch(model, model.mteb_model_meta), SearchProtocol)
    texts = ["a river", "jua", "太阳"]
    loader = DataLoader(Dataset.from_dict({"text": texts}), batch_size=2)
    asked = model.encode(loader, prompt_type=PromptType.query, **CONTEXT)
    told = model.encode(loader, prompt_type=PromptType.document, **CONTEXT)
    np.testing.assert_array_equal(asked, encoder.embed_queries(texts))
    np.testing.assert_array_equal(told, encoder.embed_documents(texts))
    assert not np.allclose(asked, told)
    assert model.similarity(asked, told).numpy() == pytest.approx(asked @ told.T, abs=1e-5)
    assert model.similarity_pairwise(asked, told).numpy() == pytest.approx((asked * told).sum(1), abs=1e-5)
    assert model.mteb_model_meta.revision == encoder.fingerprint()[:40]
    assert model.mteb_model_meta.similarity_fn_name == encoder.similarity


@pytest.mark.parametrize(("block", "scores_at_once"), [(1000, 1 << 25), (3, 1 << 25), (7, 8)])
def test_search_in_blocks_equals_brute_force(
    encoder: Encoder,
    corpus: Dataset,
    queries: Dataset,
    monkeypatch: pytest.MonkeyPatch,
    block: int,
    scores_at_once: int,
) -> None:
    monkeypatch.setattr(mteb_search, "BLOCK_DOCUMENTS", block)
    monkeypatch.setattr(mteb_search, "SCORES_AT_ONCE", scores_at_once)
    model = MtebEncoder(encoder, "tiny")
    expected_QD = brute_force(encoder, corpus, queries)
    for top_k in (1, 5, 100):
        hits = search(EncoderSearch(model, model.mteb_model_meta), corpus, queries, top_k)
        for row, query in enumerate(queries["id"]):
            best = np.argsort(-expected_QD[row], kind="stable")[:top_k]
            assert hits[query] == pytest.approx({f"d{i}": expected_QD[row, i] for i in best}, abs=1e-4)


def test_a_pool_that_subsets_share_is_embedded_once(encoder: Encoder, corpus: Dataset, queries: Dataset) -> None:
    class Counting(MtebEncoder):
        documents = 0

        def encode(self, inputs: Any, *, prompt_type: Any = None, **settings: Any) -> np.ndarray:
            if prompt_type == PromptType.document:
                self.documents += len(inputs.dataset)
            return super().encode(inputs, prompt_type=prompt_type, **settings)

    model = Counting(encoder, "tiny")
    searching = EncoderSearch(model, model.mteb_model_meta)
    first = search(searching, corpus, queries)
    second = search(searching, corpus, queries)
    assert model.documents == len(corpus)
    assert first == second
    search(searching, corpus.select(range(5)), queries)
    assert model.documents == len(corpus) + 5


def test_centring_moves_the_documents_before_they_are_searched(
    encoder: Encoder, corpus: Dataset, queries: Dataset
) -> None:
    def centre(documents_DH: np.ndarray, languages: list[str]) -> np.ndarray:
        means = {code: documents_DH[np.array(languages) == code].mean(0) for code in set(languages)}
        return documents_DH - np.stack([means[code] for code in languages])

    model = MtebEncoder(encoder, "tiny")
    hits = search(EncoderSearch(model, model.mteb_model_meta, centre), corpus, queries)
    documents_DH = encoder.embed_documents(document_texts(corpus))
    queries_QH = encoder.embed_queries(list(queries["text"]))
    for row, query in enumerate(queries["id"]):
        for column, own in enumerate(corpus["language"]):
            same = [i for i, code in enumerate(corpus["language"]) if code == own]
            shifted = documents_DH[column] - documents_DH[same].mean(0)
            if encoder.similarity == "cosine":
                shifted = shifted / np.linalg.norm(shifted)
            assert hits[query][f"d{column}"] == pytest.approx(float(shifted @ queries_QH[row]), abs=1e-4)


def test_scores_that_are_no_numbers_stop_the_run(encoder: Encoder, corpus: Dataset, queries: Dataset) -> None:
    class Broken(MtebEncoder):
        def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
            return super().similarity(embeddings1, embeddings2) * float("nan")

    model = Broken(encoder, "tiny")
    with pytest.raises(ModelError, match="the model's scores contain NaN or infinity"):
        search(EncoderSearch(model, model.mteb_model_meta), corpus, queries)


def shared_words(texts: list[str]) -> Any:
    """A naive search: how many words a query shares with a document; documents without any are no hits."""

    def find(questions: Sequence[str], k: int) -> tuple[np.ndarray, np.ndarray]:
        scores_QD = np.array([[len(set(q.split()) & set(t.split())) for t in texts] for q in questions], dtype=float)
        positions_QK = np.argsort(-scores_QD, axis=1, kind="stable")[:, :k]
        found_QK = np.take_along_axis(scores_QD, positions_QK, axis=1)
        return found_QK, np.where(found_QK > 0, positions_QK, -1)

    return find


def test_a_text_search_leaves_out_what_it_did_not_find(corpus: Dataset) -> None:
    asked = Dataset.from_dict({"id": ["q"], "text": ["the river Title 0"]})
    hits = search(TextSearch(shared_words, model_meta("words", "1")), corpus, asked, top_k=20)
    for document, score in hits["q"].items():
        text = document_texts(corpus)[int(document[1:])]
        assert score == len(set(text.split()) & {"the", "river", "Title", "0"}) > 0
    assert 0 < len(hits["q"]) < 20


def test_fusion_equals_reciprocal_ranks_by_hand(corpus: Dataset, encoder: Encoder) -> None:
    def fuse(query: str, rankings: list[list[tuple[int, float]]], texts_of: Any) -> list[tuple[int, float]]:
        sums: dict[int, float] = {}
        for ranking in rankings:
            for rank, (position, _) in enumerate(ranking, start=1):
                sums[position] = sums.get(position, 0.0) + 1 / (60 + rank)
        return sorted(sums.items(), key=lambda item: -item[1])

    asked = Dataset.from_dict({"id": ["q"], "text": ["the river rises in the hills"]})
    dense = MtebEncoder(encoder, "tiny")
    parts = [EncoderSearch(dense, dense.mteb_model_meta), TextSearch(shared_words, model_meta("words", "1"))]
    answers = [search(part, corpus, asked)["q"] for part in parts]
    ranks = [
        {d: rank for rank, d in enumerate(sorted(hits, key=lambda d: (-hits[d], int(d[1:]))), start=1)}
        for hits in answers
    ]
    expected = {d: sum(1 / (60 + rank[d]) for rank in ranks if d in rank) for d in set(ranks[0]) | set(ranks[1])}
    hybrid = CombinedMtebSearch(parts, fuse, combined_meta("hybrid", parts))
    assert search(hybrid, corpus, asked)["q"] == pytest.approx(expected)
    assert len(search(hybrid, corpus, asked, top_k=3)["q"]) == 3


def test_what_combines_rankings_sees_them_best_first_and_reads_their_documents(
    corpus: Dataset, encoder: Encoder
) -> None:
    asked = Dataset.from_dict({"id": ["q"], "text": ["river"]})
    dense = MtebEncoder(encoder, "tiny")
    first = EncoderSearch(dense, dense.mteb_model_meta)
    before = search(first, corpus, asked)["q"]
    order = sorted(before, key=lambda document: -before[document])
    texts = dict(zip(corpus["id"], document_texts(corpus), strict=True))
    seen: list[tuple[str, str]] = []

    def longest_first(query: str, rankings: list[Any], texts_of: Any) -> list[tuple[int, float]]:
        positions = [position for position, _ in rankings[0][:6]]
        seen.extend((query, text) for text in texts_of(positions))
        return [(position, float(len(texts[f"d{position}"]))) for position in positions]

    after = search(CombinedMtebSearch([first], longest_first, combined_meta("x", [first])), corpus, asked)["q"]
    assert seen == [("river", texts[document]) for document in order[:6]]
    assert after == {found: len(texts[found]) for found in order[:6]}


def test_a_combination_changes_its_revision_with_any_part() -> None:
    one, other = (TextSearch(shared_words, model_meta("words", revision)) for revision in ("1", "2"))
    metas = [
        combined_meta("x", [one, one]),
        combined_meta("x", [one, other]),
        combined_meta("x", [one, one], "depth 5"),
    ]
    assert len({meta.revision for meta in metas}) == 3
