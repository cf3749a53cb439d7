"""Word swaps by dictionary, on texts whose every word is known."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mcontriever.errors import ConfigError, DataError
from mcontriever.pretraining.code_switch import CodeSwitched
from mcontriever.pretraining.dictionaries.bilingual_dictionary import BilingualDictionary
from mcontriever.pretraining.dictionaries.inflections import Lemmas
from mcontriever.pretraining.dictionaries.words_on_tokens import word_hashes
from mcontriever.pretraining.pairs import TokenPairs
from mcontriever.ragged import Ragged
from tests.pretraining.small_tokenizers import sentencepiece_tokenizer

LANGUAGES = ["ar", "en", "sw", "zh"]
PIECES = [
    *("▁", ",", ".", "▁the", "▁dog", "▁Dog", "s", "▁cat", "▁sees", "▁house", "▁fire", "▁hot"),
    *("▁mbwa", "▁paka", "▁nyu", "mba", "▁kibanda", "▁moto", "▁zima", "狗", "猫", "房", "子"),
]
SWAHILI = "english\tforeign\tsenses\ndog\tmbwa\t2\ncat\tpaka\t1\nhouse\tnyumba\t3\nhouse\tkibanda\t1\n"
SWAHILI += "hot dog\tmbwa moto\t1\nfire\tzima moto\t1\n\tpaka\t1\nsees\tsees\t1\n"
CHINESE = "dog\t狗\ncat\t猫\nhouse\t房子\nhouse\t.\n"


@pytest.fixture
def tokenizer() -> Any:
    return sentencepiece_tokenizer(PIECES)


@pytest.fixture
def dictionary(tmp_path: Path, tokenizer: Any) -> BilingualDictionary:
    with gzip.open(tmp_path / "en-sw.tsv.gz", "wb") as file:
        file.write(SWAHILI.encode())
    (tmp_path / "en-zh.tsv").write_text(CHINESE, encoding="utf-8")
    paths = {"sw": str(tmp_path / "en-sw.tsv.gz"), "zh": str(tmp_path / "en-zh.tsv")}
    return BilingualDictionary.read(paths, tokenizer, languages=LANGUAGES)


class Texts:
    """Every sample is the same text on both sides."""

    def __init__(self, tokenizer: Any, text: str, language: str) -> None:
        self.ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        self.language = LANGUAGES.index(language)

    def draw(self, samples: np.ndarray) -> TokenPairs:
        rows = Ragged.of([self.ids for _ in samples])
        return TokenPairs(rows, rows, np.full(len(samples), self.language), samples)


def texts_of(tokenizer: Any, rows: Ragged) -> list[str]:
    texts = ["".join(tokenizer.convert_ids_to_tokens(row)).replace("▁", " ") for row in rows.to_lists()]
    return [" ".join(text.split()) for text in texts]


def switched(
    dictionary: BilingualDictionary, tokenizer: Any, text: str, language: str, probability: float = 1.0, **settings: Any
) -> tuple[list[str], list[str]]:
    source = CodeSwitched(Texts(tokenizer, text, language), dictionary, probability=probability, seed=0, **settings)
    pairs = source.draw(np.arange(2000))
    return texts_of(tokenizer, pairs.queries), texts_of(tokenizer, pairs.keys)


def test_english_moves_into_one_language_at_a_time_by_senses(dictionary: Any, tokenizer: Any) -> None:
    queries, keys = switched(dictionary, tokenizer, "the Dog, dogs. cat sees house", "en")
    assert set(keys) == {"the Dog, dogs. cat sees house"}
    large, small = "the mbwa, dogs. paka sees nyumba", "the mbwa, dogs. paka sees kibanda"
    chinese = "the 狗, dogs. 猫 sees 房子"
    assert set(queries) == {large, small, chinese}
    assert abs(queries.count(chinese) / 2000 - 0.5) < 0.04
    assert abs(queries.count(large) / queries.count(small) - 3) < 0.7


def test_foreign_words_move_into_english(dictionary: Any, tokenizer: Any) -> None:
    assert set(switched(dictionary, tokenizer, "mbwa sees nyumba", "sw")[0]) == {"dog sees house"}
    assert set(switched(dictionary, tokenizer, "狗 sees 猫.", "zh")[0]) == {"dog sees cat."}


def test_a_phrase_is_put_in_but_not_looked_for(dictionary: Any, tokenizer: Any) -> None:
    assert set(switched(dictionary, tokenizer, "hot fire", "en")[0]) == {"hot zima moto", "hot fire"}
    assert set(switched(dictionary, tokenizer, "zima moto", "sw")[0]) == {"zima moto"}


def test_a_language_without_a_dictionary_stays(dictionary: Any, tokenizer: Any) -> None:
    assert set(switched(dictionary, tokenizer, "dog mbwa", "ar")[0]) == {"dog mbwa"}


def test_each_word_draws_for_itself_and_sides_can_be_chosen(dictionary: Any, tokenizer: Any) -> None:
    queries, keys = switched(dictionary, tokenizer, "mbwa paka", "sw", 0.25, side="both")
    for texts in (queries, keys):
        assert abs(sum("dog" in text for text in texts) / 2000 - 0.25) < 0.03
        assert abs(texts.count("dog cat") / 2000 - 0.0625) < 0.02
    assert queries != keys
    queries, keys = switched(dictionary, tokenizer, "mbwa paka", "sw", side="keys")
    assert (set(queries), set(keys)) == ({"mbwa paka"}, {"dog cat"})


def test_the_longest_chinese_word_is_found(dictionary: Any, tokenizer: Any) -> None:
    """房子 is two pieces, and 房 alone is not a word of the dictionary."""
    assert set(switched(dictionary, tokenizer, "猫房子狗房,子狗子", "zh")[0]) == {"cat house dog房,子 dog子"}


def test_forms_are_switched_like_their_words(dictionary: Any, tokenizer: Any) -> None:
    forms = Ragged.of([tokenizer(word, add_special_tokens=False)["input_ids"] for word in ("dogs", "Dog", "the")])
    hashes = word_hashes(forms, forms.starts_N)
    english = LANGUAGES.index("en")
    lemmas = Lemmas("en", dictionary.lemmas[english])
    with_forms = dictionary.with_forms(english, hashes, ["dogs", "Dog", "the"], lemmas)
    queries = switched(with_forms, tokenizer, "the dogs, Dog. sees houses", "en")[0]
    assert set(queries) == {"the mbwa, mbwa. sees houses", "the 狗, 狗. sees houses"}
    assert with_forms.counts["entries"] == dictionary.counts["entries"] + 2  # dogs, into each language


def test_a_sample_is_the_same_in_any_batch(dictionary: Any, tokenizer: Any) -> None:
    source = CodeSwitched(Texts(tokenizer, "dog cat house", "en"), dictionary, probability=0.5, side="both", seed=0)
    whole, some = source.draw(np.arange(50)), source.draw(np.array([31, 4]))
    assert some.queries.to_lists() == whole.take(np.array([31, 4])).queries.to_lists()
    assert some.keys.to_lists() == whole.take(np.array([31, 4])).keys.to_lists()


def test_what_was_read_is_counted(dictionary: Any) -> None:
    assert dictionary.counts == {
        "pairs": 11,
        "lines without one of the words": 1,
        "entries": 16,
        "phrases, signs or unknown tokens, never found": 4,
        "signs or unknown tokens, never put in": 1,
        "same in both languages": 1,
    }


def test_bad_dictionaries_and_settings_are_refused(tmp_path: Path, tokenizer: Any, dictionary: Any) -> None:
    path = tmp_path / "bad.tsv"
    path.write_text("dog\tmbwa\t2\ncat paka\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"expected english, foreign and a number of senses, found \['cat paka'\]") as e:
        BilingualDictionary.read({"sw": str(path)}, tokenizer, languages=LANGUAGES)
    assert "bad.tsv:2" in str(e.value)
    path.write_text("hot dog\tmbwa moto\t2\n", encoding="utf-8")
    with pytest.raises(DataError, match="no word of the dictionaries can be switched"):
        BilingualDictionary.read({"sw": str(path)}, tokenizer, languages=LANGUAGES)
    with pytest.raises(ConfigError, match="dictionaries need the languages fr, but the data has ar, en, sw, zh"):
        BilingualDictionary.read({"fr": str(path)}, tokenizer, languages=LANGUAGES)
    with pytest.raises(ConfigError, match="side 'left' is not one of query, keys, both"):
        CodeSwitched(Texts(tokenizer, "dog", "en"), dictionary, probability=0.5, side="left", seed=0)
    with pytest.raises(ConfigError, match="code-switching probability -1 is not between 0 and 1"):
        CodeSwitched(Texts(tokenizer, "dog", "en"), dictionary, probability=-1, seed=0)


def test_a_range_draws_one_share_for_each_view(dictionary: Any, tokenizer: Any) -> None:
    queries, _ = switched(dictionary, tokenizer, "mbwa paka", "sw", (0.0, 1.0))
    both, none = queries.count("dog cat") / 2000, queries.count("mbwa paka") / 2000
    # the integrals of p * p and (1 - p) * (1 - p) over [0, 1]; a fixed 0.5 would give a quarter each
    assert both == pytest.approx(1 / 3, abs=0.04)
    assert none == pytest.approx(1 / 3, abs=0.04)
    with pytest.raises(ConfigError, match=r"code-switching probability 0\.8 to 0\.2 is not between 0 and 1"):
        CodeSwitched(Texts(tokenizer, "dog", "en"), dictionary, probability=(0.8, 0.2), seed=0)


def test_what_no_dictionary_knows_can_be_dropped(dictionary: Any, tokenizer: Any) -> None:
    queries, _ = switched(dictionary, tokenizer, "mbwa sees the nyumba", "sw", drop_untranslated=1.0)
    assert set(queries) == {"dog house"}
    assert set(switched(dictionary, tokenizer, "the sees", "sw", drop_untranslated=1.0)[0]) == {"the sees"}
    assert set(switched(dictionary, tokenizer, "mbwa the", "ar", drop_untranslated=1.0)[0]) == {"mbwa the"}
    queries, _ = switched(dictionary, tokenizer, "mbwa the", "sw", drop_untranslated=0.25)
    assert queries.count("dog") / 2000 == pytest.approx(0.25, abs=0.04)
    with pytest.raises(ConfigError, match=r"drop_untranslated 1\.5 is not between 0 and 1"):
        CodeSwitched(Texts(tokenizer, "dog", "en"), dictionary, probability=0.5, drop_untranslated=1.5, seed=0)
