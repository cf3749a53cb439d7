"""Bare word pairs: which are drawn, how often, and whose negatives they may be."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mcontriever.errors import ConfigError, DataError
from mcontriever.pretraining.dictionaries.dictionary_pairs import DictionaryPairs
from tests.pretraining.small_tokenizers import sentencepiece_tokenizer

LANGUAGES = ["en", "sw", "zh"]
PIECES = ["▁", "▁dog", "▁cat", "▁house", "▁hot", "▁mbwa", "▁paka", "▁nyumba", "▁moto", "狗"]


@pytest.fixture
def tokenizer() -> Any:
    return sentencepiece_tokenizer(PIECES)


def read(tmp_path: Path, tokenizer: Any, swahili: str, chinese: str = "dog\t狗\t4\n") -> DictionaryPairs:
    (tmp_path / "en-sw.tsv").write_text("english\tforeign\tsenses\n" + swahili, encoding="utf-8")
    (tmp_path / "en-zh.tsv").write_text(chinese, encoding="utf-8")
    paths = {code: str(tmp_path / f"en-{code}.tsv") for code in ("sw", "zh")}
    return DictionaryPairs.read(paths, tokenizer, languages=LANGUAGES, seed=0)


def test_senses_weigh_pairs_and_the_root_of_their_sum_weighs_dictionaries(tmp_path: Path, tokenizer: Any) -> None:
    source = read(tmp_path, tokenizer, "dog\tmbwa\t6\ncat\tpaka\t2\nhot dog\tmbwa moto\t1\nhouse\thouse\t9\n")
    drawn = source.draw(np.arange(40_000))

    def words(row: list[int]) -> str:
        return " ".join("".join(tokenizer.convert_ids_to_tokens(row)).replace("▁", " ").split())

    rows = zip(drawn.queries.to_lists(), drawn.keys.to_lists(), strict=True)
    texts = [(words(query), words(key)) for query, key in rows]
    weights = {("dog", "mbwa"): 6 / 3, ("cat", "paka"): 2 / 3, ("hot dog", "mbwa moto"): 1 / 3, ("dog", "狗"): 4 / 2}
    assert set(texts) == set(weights)
    for pair, weight in weights.items():
        assert texts.count(pair) / 40_000 == pytest.approx(weight / sum(weights.values()), abs=0.012)
    assert {LANGUAGES[number] for number in drawn.language_B} == {"sw", "zh"}
    numbers = {pair: set(drawn.text_B[[text == pair for text in texts]]) for pair in weights}
    assert numbers["dog", "mbwa"] == numbers["dog", "狗"]
    assert len(set.union(*numbers.values())) == 3


def test_a_sample_is_the_same_in_any_batch(tmp_path: Path, tokenizer: Any) -> None:
    source = read(tmp_path, tokenizer, "dog\tmbwa\t1\ncat\tpaka\t1\n")
    whole, some = source.draw(np.arange(50)), source.draw(np.array([31, 4]))
    assert some.keys.to_lists() == whole.take(np.array([31, 4])).keys.to_lists()


def test_dictionaries_without_a_pair_or_of_a_stranger_are_refused(tmp_path: Path, tokenizer: Any) -> None:
    with pytest.raises(DataError, match="no pair of words in the dictionaries of sw, zh"):
        read(tmp_path, tokenizer, "house\thouse\t1\n", "house\thouse\n")
    with pytest.raises(ConfigError, match="dictionaries need the languages fr, but the data has en, sw, zh"):
        DictionaryPairs.read({"fr": "nowhere.tsv"}, tokenizer, languages=LANGUAGES, seed=0)
