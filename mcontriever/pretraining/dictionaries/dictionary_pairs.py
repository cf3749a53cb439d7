"""Pairs of a word and its translation, from the same bilingual dictionaries that code-switching reads.

    source = DictionaryPairs.read({"sw": "en-sw.tsv.gz"}, tokenizer, languages=["en", "sw"], seed=0)

The English side is the query. A pair is drawn in proportion to its senses, a dictionary in proportion to the square
root of its sum of senses, so that a large one does not crowd out the small ones. Every draw is a function of the
sample's number.

Shapes: C pairs, B samples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mcontriever import chance
from mcontriever.errors import DataError
from mcontriever.pretraining.dictionaries.dictionary_lines import read_dictionaries
from mcontriever.pretraining.pairs import TokenPairs
from mcontriever.ragged import IntArray, Ragged
from mcontriever.tokens import tokenize_texts

MAX_TOKENS = 32


@dataclass(frozen=True, eq=False)
class DictionaryPairs:
    """`text_C` numbers the English words: two translations of one word are never each other's negatives."""

    english: Ragged
    foreign: Ragged
    language_C: IntArray
    text_C: IntArray
    weight_until_C: npt.NDArray[np.float64]
    seed: int

    @classmethod
    def read(
        cls, paths: Mapping[str, str], tokenizer: Any, *, languages: Sequence[str], seed: int
    ) -> "DictionaryPairs":
        """`paths` by foreign language; a language's number is its position in `languages`."""
        lines = [line for line in read_dictionaries(paths, languages)[0] if line[1] != line[2]]
        if not lines:
            raise DataError(f"no pair of words in the dictionaries of {', '.join(paths)}", fix="check the files")
        language_C = np.array([line[0] for line in lines])
        senses_C = np.array([line[3] for line in lines], dtype=np.float64)
        senses_of_language = np.bincount(language_C, senses_C)
        english_words = [line[1] for line in lines]
        number_of = {word: number for number, word in enumerate(dict.fromkeys(english_words))}
        return cls(
            english=_tokenize_each_once(tokenizer, english_words),
            foreign=_tokenize_each_once(tokenizer, [line[2] for line in lines]),
            language_C=language_C,
            text_C=np.array([number_of[word] for word in english_words]),
            weight_until_C=np.cumsum(senses_C / np.sqrt(senses_of_language[language_C])),
            seed=seed,
        )

    def draw(self, samples: IntArray) -> TokenPairs:
        wanted_B = chance.uniform(self.seed, "dictionary pairs", samples) * self.weight_until_C[-1]
        pair_B = np.minimum(np.searchsorted(self.weight_until_C, wanted_B, side="right"), len(self.weight_until_C) - 1)
        return TokenPairs(
            self.english.take(pair_B), self.foreign.take(pair_B), self.language_C[pair_B], self.text_C[pair_B]
        )


def _tokenize_each_once(tokenizer: Any, texts: Sequence[str]) -> Ragged:
    """A word occurs in many lines."""
    number_of = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    distinct = Ragged.of_lengths(*tokenize_texts(tokenizer, list(number_of), MAX_TOKENS))
    return distinct.take(np.array([number_of[text] for text in texts]))
