"""A store whose documents were all deleted, and one with a single document: every search and every index."""

from pathlib import Path
from typing import get_args

import pytest

from mcontriever import index as verb
from mcontriever.encoder import Encoder
from mcontriever.errors import ConfigError, StoreError
from mcontriever.retrieval.search_options import Mode
from mcontriever.retrieval.searcher import Index
from mcontriever.retrieval.store import store_edits
from mcontriever.retrieval.vector_search.index_kinds import FAISS_KINDS, FLAT_INT8
from tests.retrieval.small_corpora import make_store, mixed_documents


@pytest.fixture(params=["deleted", "compacted", "compacted passages"])
def emptied(request: pytest.FixtureRequest, tmp_path: Path, encoder: Encoder) -> Path:
    words = 3 if "passages" in request.param else None
    folder = make_store(tmp_path / "s", mixed_documents(6), encoder, passage_words=words).folder
    store_edits.delete(folder, [f"d{number}" for number in range(6)])
    if "compacted" in request.param:
        store_edits.compact(folder)
    return folder


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("mode", get_args(Mode))
def test_an_empty_store_answers_with_nothing(emptied: Path, encoder: Encoder, mode: Mode, center: bool) -> None:
    index = Index.open(emptied, encoder=encoder)
    assert index.search("rain", mode=mode, center_languages=center) == []
    if mode != "dense":
        assert index.search("rain", mode=mode, terms="both") == []


@pytest.mark.parametrize("kind", [FLAT_INT8, *FAISS_KINDS, "auto"])
def test_an_empty_store_has_nothing_to_index(emptied: Path, kind: str) -> None:
    with pytest.raises(StoreError, match="the store has no documents"):
        verb.run(emptied, kind=kind)


def test_bm25_of_an_empty_store_can_be_made(emptied: Path) -> None:
    verb.run(emptied, kind="bm25")


def test_one_document_can_be_indexed_in_every_kind(tmp_path: Path, encoder: Encoder) -> None:
    folder = make_store(tmp_path / "s", mixed_documents(1), encoder).folder
    for kind in (FLAT_INT8, *FAISS_KINDS):
        verb.run(folder, kind=kind)
        (hit,) = Index.open(folder, encoder=encoder).search("rain", index=kind)
        assert hit.id == "d0"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"mode": "zz"}, "mode is 'zz'\n  fix: give one of dense, bm25, hybrid"),
        ({"fusion": "zz"}, "fusion is 'zz'\n  fix: give one of rrf, weighted, blend"),
        ({"terms": None}, "terms is None"),
        ({"index": "../x"}, r"index is '\.\./x'"),
        ({"k": 0}, "k 0 and depth 100 must be 1 or more"),
    ],
)
def test_options_that_cannot_be_right(tmp_path: Path, options: dict[str, object], expected: str) -> None:
    index = Index(make_store(tmp_path / "s", mixed_documents(3), None))
    with pytest.raises(ConfigError, match=expected):
        index.search("rain", **options)  # type: ignore[arg-type]
