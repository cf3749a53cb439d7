"""Distinct words of token shards against counting strings, the forms that a dictionary learns of them, likely words."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mcontriever.pretraining.dictionaries.bilingual_dictionary import BilingualDictionary
from mcontriever.pretraining.dictionaries.forms_in_shards import distinct_words, with_forms_of
from mcontriever.pretraining.dictionaries.likely_words import likely_words
from mcontriever.pretraining.dictionaries.words_on_tokens import word_hashes
from mcontriever.ragged import Ragged
from mcontriever.token_shards import TokenStore
from mcontriever.word_starts import WordBoundaries
from tests.pretraining.small_tokenizers import sentencepiece_tokenizer
from tests.test_token_shards import make_store

PIECES = ["▁", ",", "▁the", "▁dog", "s", "▁cat", "▁sees", "▁mbwa", "▁paka", "paka", "wa", "▁ki"]
ENGLISH = ["the dogs, dogs sees the cats", "the dog sees cats", "dogs"]
SWAHILI = ["mbwa paka", "kipaka mbwawa kipaka"]


@pytest.fixture
def tokenizer() -> Any:
    return sentencepiece_tokenizer(PIECES)


@pytest.fixture
def store(tmp_path: Path, tokenizer: Any) -> TokenStore:
    def tokens(texts: list[str]) -> list[np.ndarray]:
        return [np.array(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]

    shards = {"en": [tokens(ENGLISH[:2]), tokens(ENGLISH[2:])], "sw": [tokens(SWAHILI)]}
    return TokenStore.open(make_store(tmp_path, shards))


def test_distinct_words_are_those_of_the_texts(store: TokenStore, tokenizer: Any) -> None:
    words = WordBoundaries.of(tokenizer)
    for language, texts in (("en", ENGLISH), ("sw", SWAHILI)):
        counts = Counter(word for text in texts for word in re.findall(r"\w+|,", text))
        for at_least in (1, 2, 3):
            hashes_D, found = distinct_words(store, language, words, tokenizer, at_least=at_least)
            assert sorted(found) == sorted(word for word, count in counts.items() if count >= at_least)
            rows = Ragged.of([tokenizer(word, add_special_tokens=False)["input_ids"] for word in found if word != ","])
            expected = word_hashes(rows, rows.starts_N)
            assert [hash for hash, word in zip(hashes_D, found, strict=True) if word != ","] == expected.tolist()


def test_a_dictionary_learns_the_forms_that_the_shards_hold(store: TokenStore, tokenizer: Any, tmp_path: Path) -> None:
    (tmp_path / "en-sw.tsv").write_text("dog\tmbwa\t1\ncat\tpaka\t1\n", encoding="utf-8")
    dictionary = BilingualDictionary.read({"sw": str(tmp_path / "en-sw.tsv")}, tokenizer, languages=store.languages)
    grown = with_forms_of(store, dictionary, tokenizer)
    # dogs and cats stand twice, and so does kipaka, a paka with a prefix; mbwawa stands once
    assert grown.counts["entries"] - dictionary.counts["entries"] == 3
    rows = Ragged.of([tokenizer(word, add_special_tokens=False)["input_ids"] for word in ("dogs", "cats", "kipaka")])
    english, swahili = (store.languages.index(code) for code in ("en", "sw"))
    here, there = np.array([english, english, swahili]), np.array([swahili, swahili, english])
    entries = grown.find(word_hashes(rows, rows.starts_N), here, there)
    texts = grown.texts.take(grown.choose_translations(entries, np.zeros(3)))
    assert [tokenizer.decode(row).strip("▁") for row in texts.to_lists()] == ["mbwa", "paka", "cat"]
    assert (dictionary.find(word_hashes(rows, rows.starts_N), here, there) == -1).all()


def test_likely_words_share_out_the_english_counts(tmp_path: Path) -> None:
    (tmp_path / "en-sw.tsv").write_text("dog\tmbwa\t3\ndog\tjibwa\t1\nhouse\tnyumba\t1\nmoon\tmwezi\t1\n")
    found = likely_words(["Dogs bark, a dog barks", "The house"], {"sw": str(tmp_path / "en-sw.tsv")})
    assert found["en"] == {"dog": 2, "house": 1}
    assert found["sw"] == {"mbwa": 1.5, "jibwa": 0.5, "nyumba": 1.0}
