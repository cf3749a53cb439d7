"""What stands behind a model's name finds what the retrieval department, and the bare libraries, find."""

from pathlib import Path
from typing import Any

import bm25s
import numpy as np
import pytest
from datasets import Dataset

from mcontriever.assembly.benchmarked_models import open_passages, searches
from mcontriever.encoder import Encoder
from mcontriever.errors import ConfigError, StoreError
from mcontriever.evaluation.model_specs import parse_model, parse_models
from mcontriever.retrieval.searcher import Index
from mcontriever.texts.documents import Document, Query
from tests.conftest import SENTENCES

CONTEXT: dict[str, Any] = {"task_metadata": None, "hf_split": "test", "hf_subset": "default", "encode_kwargs": {}}
WORDS = [word for language in ("en", "ar", "sw") for text in SENTENCES[language] for word in text.split()]


def documents(count: int = 75) -> list[Document]:
    random = np.random.default_rng(0)
    return [
        Document(f"d{i}", " ".join(random.choice(WORDS, 12)), language=("en", "ar", "sw")[i % 3]) for i in range(count)
    ]


def queries() -> list[Query]:
    return [Query(f"q{i}", SENTENCES[language][i][:40], language) for i, language in enumerate(("en", "ar", "sw"))]


def searched(name: str, centred: bool = False) -> dict[str, dict[str, float]]:
    found = list(searches(parse_models([name]), centred, 10, "cpu"))
    search = found[-1][1]
    columns = {name: [getattr(d, name) for d in documents()] for name in ("id", "title", "text", "language")}
    asked = {name: [getattr(q, name) for q in queries()] for name in ("id", "text", "language")}
    search.index(Dataset.from_dict(columns), **CONTEXT)
    return search.search(Dataset.from_dict(asked), top_k=75, **CONTEXT)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("bm25:words", {"mode": "bm25"}),
        ("bm25:subwords={tiny}", {"mode": "bm25", "terms": "subwords"}),
        ("{tiny}", {"mode": "dense", "merge": "raw"}),
        ("{tiny} centred", {"mode": "dense", "center_languages": True}),
        ("hybrid:bm25:words,{tiny}", {"mode": "hybrid", "depth": 75, "fusion": "rrf"}),
        ("calibrated:{tiny}", {"k": 10}),
        ("calibrated:{tiny},bm25:words", {"mode": "hybrid", "depth": 10, "k": 10}),
        (
            "blend:bm25:words,bm25:subwords={tiny},{tiny}",
            {"mode": "hybrid", "terms": "both", "fusion": "blend", "depth": 75},
        ),
    ],
)
def test_the_benchmark_finds_what_search_finds(
    name: str, options: dict[str, Any], tiny_encoder_dir: Path, tmp_path: Path
) -> None:
    index = Index.build(Encoder.load(tiny_encoder_dir), documents(), tmp_path / "store")
    name = name.format(tiny=tiny_encoder_dir)
    found = searched(name.removesuffix(" centred"), centred=name.endswith(" centred"))
    for query in queries():
        hits = index.search(query, **{"k": 75, **options})
        scores = {hit.id: hit.score for hit in hits}
        assert found[query.id] == pytest.approx(scores, rel=1e-2, abs=1e-2)  # bf16 where that is native


def test_plain_bm25_is_bm25s_without_what_shares_no_word() -> None:
    texts = [document.text for document in documents()]
    index = bm25s.BM25()
    index.index(bm25s.tokenize(texts, stopwords=None, show_progress=False), show_progress=False)
    asked = bm25s.tokenize([query.text for query in queries()], stopwords=None, show_progress=False)
    rows, scores = index.retrieve(asked, k=75, show_progress=False)
    found = searched("bm25")
    for number, query in enumerate(queries()):
        pairs = zip(rows[number].tolist(), scores[number].tolist(), strict=True)
        assert found[query.id] == pytest.approx({f"d{row}": score for row, score in pairs if score > 0})
        assert 0 < len(found[query.id]) < 75


def test_plain_bm25_of_documents_without_words_finds_nothing() -> None:
    search = next(searches(parse_models(["bm25"]), False, 10, "cpu"))[1]
    search.index(Dataset.from_dict({"id": ["a", "b"], "text": ["!", "?"]}), **CONTEXT)
    assert search.search(Dataset.from_dict({"id": ["q"], "text": ["what"]}), top_k=10, **CONTEXT) == {"q": {}}


def test_rows_of_a_store_are_those_that_search_returns(tiny_encoder_dir: Path, tmp_path: Path) -> None:
    index = Index.build(Encoder.load(tiny_encoder_dir), documents(), tmp_path / "store")
    texts = [query.text for query in queries()]
    for name, options in (
        ("bm25", {"mode": "bm25"}),
        (str(tiny_encoder_dir), {"mode": "dense", "merge": "raw"}),
        (f"hybrid:bm25,{tiny_encoder_dir}", {"mode": "hybrid", "depth": 75, "fusion": "rrf"}),
    ):
        passages = open_passages(parse_model(name), [tmp_path / "store"], 10, "cpu")
        rows_QK = passages.find(texts, 75)
        for query, rows in zip(queries(), rows_QK.tolist(), strict=True):
            expected = [hit.id for hit in index.search(query, k=75, **options)]
            assert [f"d{row}" for row in rows if row >= 0][:5] == expected[:5], name
        assert [text for _, text in passages.texts()] == [document.text for document in documents()]
        assert passages.count == 75


def test_each_encoder_takes_its_own_store(tiny_encoder_dir: Path, tmp_path: Path) -> None:
    other = Encoder.load(tiny_encoder_dir, query_prefix="query: ")
    other.save(tmp_path / "other")
    for name, encoder in (("tiny", Encoder.load(tiny_encoder_dir)), ("other", Encoder.load(tmp_path / "other"))):
        Index.build(encoder, documents(), tmp_path / f"store-{name}")
    stores = [tmp_path / "store-tiny", tmp_path / "store-other"]
    passages = open_passages(parse_model(str(tmp_path / "other")), stores, 10, "cpu")
    assert passages.revision == Encoder.load(tmp_path / "other").fingerprint()
    with pytest.raises(StoreError, match="the store was made by another encoder"):
        open_passages(parse_model(str(tmp_path / "other")), stores[:1], 10, "cpu")
    with pytest.raises(ConfigError, match=r"no --store was given\n.*mcontriever embed psgs_w100"):
        open_passages(parse_model("bm25"), [], 10, "cpu")
