"""Add to a dictionary the inflected forms of its words that the token shards hold.

    dictionary = with_forms_of(store, dictionary, tokenizer)

Shapes: W words of running text, D distinct words.
"""

from typing import Any

import numpy as np

from mcontriever.pretraining.dictionaries.bilingual_dictionary import BilingualDictionary
from mcontriever.pretraining.dictionaries.inflections import Lemmas
from mcontriever.pretraining.dictionaries.words_on_tokens import UInt64Array, word_hashes, word_lengths
from mcontriever.progress import log
from mcontriever.ragged import IntArray, Ragged
from mcontriever.token_shards import TokenStore
from mcontriever.word_starts import WordBoundaries

AT_LEAST = 2  # a word seen once is often a typing error or a name


def with_forms_of(store: TokenStore, dictionary: BilingualDictionary, tokenizer: Any) -> BilingualDictionary:
    before = dictionary.counts["entries"]
    for language, words in dictionary.lemmas.items():
        code = store.languages[language]
        hashes_D, texts = distinct_words(store, code, dictionary.words, tokenizer, at_least=AT_LEAST)
        dictionary = dictionary.with_forms(language, hashes_D, texts, Lemmas(code, words))
    added = dictionary.counts["entries"] - before
    log.info(f"dictionaries: {before:,} words and directions, {added:,} more by forms of these words")
    return dictionary


def distinct_words(
    store: TokenStore, language: str, words: WordBoundaries, tokenizer: Any, *, at_least: int
) -> tuple[UInt64Array, list[str]]:
    """The words that occur at least so often in the language's shards, as hashes and as texts."""
    hashes: list[UInt64Array] = []
    counts: list[IntArray] = []
    found: list[Ragged] = []
    for rows in store.documents(language):
        first_W = np.flatnonzero(words.starts_T(rows))
        words_W = Ragged.of_lengths(rows.values_T, word_lengths(rows, first_W))
        hashes_D, some_D, counts_D = np.unique(word_hashes(rows, first_W), return_index=True, return_counts=True)
        hashes.append(hashes_D)
        counts.append(counts_D)
        found.append(words_W.take(some_D))
    hashes_D, some_D, which = np.unique(np.concatenate(hashes), return_index=True, return_inverse=True)
    frequent = np.bincount(which, np.concatenate(counts)) >= at_least
    pieces = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    rows = Ragged.join(found).take(some_D[frequent])
    return hashes_D[frequent], ["".join(pieces[token] for token in row).lstrip("▁Ġ") for row in rows.to_lists()]
