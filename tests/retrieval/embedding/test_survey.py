"""survey.py: ids that come twice are named with both places, shards are cut by the corpus alone."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcontriever.errors import DataError
from mcontriever.retrieval.embedding import survey as survey_module
from mcontriever.retrieval.embedding.corpus import Corpus
from mcontriever.retrieval.embedding.survey import shard_ends, survey
from mcontriever.texts.documents import Document
from tests.retrieval.small_corpora import mixed_documents, write_lines


def test_what_there_is(tmp_path: Path) -> None:
    documents = [*mixed_documents(12), Document("empty", " \n", "", "sw")]
    found = survey(Corpus.open(write_lines(tmp_path / "c.jsonl", documents)), shard_documents=5)
    assert found.documents == 13
    assert found.drops.report() == {"empty": {"count": 1, "places": [f"{tmp_path / 'c.jsonl'}:13"]}}
    assert found.languages == {"en": 3, "ar": 3, "sw": 3, "hi": 2, "zh": 2}
    assert found.characters == sum(len(document.text) + len(document.title) for document in documents)
    assert found.shard_ends == (5, 10, 13)


def test_content_tells_any_change(tmp_path: Path) -> None:
    def content(*documents: Document) -> str:
        return survey(Corpus.open(write_lines(tmp_path / "c.jsonl", documents))).content

    first = Document("a", "text", "title", "en")
    assert content(first) == content(first)
    changed = [Document("b", "text", "title", "en"), Document("a", "text", "title", "sw"), Document("a", "titletext")]
    assert len({content(first), *(content(document) for document in changed)}) == 4


def test_an_id_twice_is_refused_with_both_places(tmp_path: Path) -> None:
    documents = [*mixed_documents(9), Document("d3", "again"), Document("d5", "again")]
    path = write_lines(tmp_path / "c.jsonl", documents)
    with pytest.raises(DataError) as caught:
        survey(Corpus.open(path))
    assert f"the id 'd3' is a duplicate: first at {path}:4" in str(caught.value)
    assert f"where: {path}:10" in str(caught.value)


def test_equal_hashes_of_different_ids_are_no_duplicates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey_module, "hash_of_id", lambda identifier: 7)
    path = write_lines(tmp_path / "c.jsonl", mixed_documents(9))
    assert survey(Corpus.open(path)).documents == 9
    write_lines(path, [*mixed_documents(9), Document("d8", "again")])
    with pytest.raises(DataError, match="the id 'd8' is a duplicate"):
        survey(Corpus.open(path))


def test_a_corpus_without_any_text_is_refused(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "c.jsonl", [Document("a", ""), Document("b", " ")])
    with pytest.raises(DataError, match=r"no document with a text \(2 empty\)"):
        survey(Corpus.open(path))


@given(st.lists(st.integers(0, 1 << 26), min_size=1, max_size=60), st.integers(1, 20))
def test_shards_against_a_loop(lengths: list[int], most: int) -> None:
    expected, count, characters = [], 0, 0
    for number, length in enumerate(lengths):
        if count and (count == most or characters + length > survey_module.SHARD_MAX_CHARACTERS):
            expected.append(number)
            count, characters = 0, 0
        count, characters = count + 1, characters + length
    expected.append(len(lengths))
    assert shard_ends(np.array(lengths), most) == tuple(expected)
