"""Bilingual dictionaries on token ids: find words of running text, choose among their translations.

    dictionary = BilingualDictionary.read({"sw": "en-sw.tsv.gz"}, tokenizer, languages=["en", "sw"])

Words are found as the file spells them, in lower case or with a capital; inflected forms only after `with_forms` has
added those of the text. Phrases are never searched for, but they can be translations. In scripts without spaces between
words, the longest word that the dictionary knows is found. What cannot be used is counted.

Shapes: T tokens, W words of running text, C pairs of (word, translation), E entries, one per word and direction,
F forms.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mcontriever import chance
from mcontriever.errors import DataError
from mcontriever.pretraining.dictionaries.dictionary_lines import ENGLISH, read_dictionaries
from mcontriever.pretraining.dictionaries.inflections import Lemmas
from mcontriever.pretraining.dictionaries.words_on_tokens import JoinedWords, UInt64Array, can_be_joined, word_hashes
from mcontriever.ragged import IntArray, Ragged
from mcontriever.tokens import tokenize_texts
from mcontriever.word_starts import WordBoundaries

MAX_PHRASE_TOKENS = 64
FloatArray = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class BilingualDictionary:
    """Entries are sorted by the hash of (direction, word). Entry e has the translations first_E[e] to end_E[e] - 1, and
    translation c is the text text_C[c]. `lemmas` has, by language, the hash of each word to be found."""

    hashes_E: UInt64Array
    first_E: IntArray
    end_E: IntArray
    senses_until_C: FloatArray
    text_C: IntArray
    texts: Ragged
    targets_by_language: Mapping[int, IntArray]
    words: WordBoundaries
    joined: JoinedWords
    lemmas: Mapping[int, Mapping[str, np.uint64]]
    counts: Mapping[str, int]

    @classmethod
    def read(cls, paths: Mapping[str, str], tokenizer: Any, *, languages: Sequence[str]) -> "BilingualDictionary":
        """`paths` by foreign language; a language's number is its position in `languages`."""
        pairs, incomplete = read_dictionaries(paths, languages)
        english = languages.index(ENGLISH)
        number_of = {text: n for n, text in enumerate(dict.fromkeys(text for _, *both, _ in pairs for text in both))}
        english_C = np.array([number_of[pair[1]] for pair in pairs], dtype=np.int64)
        foreign_C = np.array([number_of[pair[2]] for pair in pairs], dtype=np.int64)
        language_C = np.array([pair[0] for pair in pairs])
        both_ways = _WordPairs(
            texts=list(number_of),
            source_C=np.concatenate([english_C, foreign_C]),
            target_C=np.concatenate([foreign_C, english_C]),
            direction_C=np.concatenate([_direction(english, language_C), _direction(language_C, english)]),
            senses_C=np.tile(np.array([pair[3] for pair in pairs], dtype=np.float64), 2),
            language_C=np.concatenate([np.full(len(pairs), english), language_C]),
        )
        targets = {int(language): np.array([english]) for language in np.unique(language_C)}
        counts = {"pairs": len(pairs), "lines without one of the words": incomplete}
        return _build(both_ways, tokenizer, {**targets, english: np.unique(language_C)}, counts)

    def with_forms(
        self, language: int, hash_F: UInt64Array, forms: Iterable[str], lemmas: Lemmas
    ) -> "BilingualDictionary":
        """Forms of known words get their word's translations; a form that is an entry already keeps its own."""
        known = self.lemmas[language]
        pairs = ((hash, lemmas.lemma_of(form)) for hash, form in zip(hash_F, forms, strict=True))
        found = [(hash, known[lemma]) for hash, lemma in pairs if lemma is not None]
        form_F, lemma_F = (
            (np.array(column, dtype=np.uint64) for column in zip(*found, strict=True)) if found else (hash_F[:0],) * 2
        )
        hashes, firsts, ends = [self.hashes_E], [self.first_E], [self.end_E]
        for target in self.targets_by_language[language].tolist():
            here, there = np.full(len(form_F), language), np.full(len(form_F), target)
            entry_F = self.find(lemma_F, here, there)
            new = (entry_F >= 0) & (self.find(form_F, here, there) < 0)
            hashes.append(form_F[new] ^ _direction(here, there)[new])
            firsts.append(self.first_E[entry_F[new]])
            ends.append(self.end_E[entry_F[new]])
        hashes_E, order = np.unique(np.concatenate(hashes), return_index=True)
        return replace(
            self,
            hashes_E=hashes_E,
            first_E=np.concatenate(firsts)[order],
            end_E=np.concatenate(ends)[order],
            counts={**self.counts, "entries": len(hashes_E)},
        )

    def starts_T(self, rows: Ragged) -> npt.NDArray[np.bool_]:
        """Which tokens begin a word that could be an entry."""
        return self.joined.join(rows, self.words.starts_T(rows))

    def choose_targets(self, language_N: IntArray, seed: int, samples: IntArray, views: IntArray) -> IntArray:
        """The language that each row's words are translated into; -1 if no dictionary knows the row's own."""
        targets_N = np.full(len(language_N), -1, dtype=np.int64)
        for language, targets in self.targets_by_language.items():
            rows = np.flatnonzero(language_N == language)
            drawn = chance.integers(seed, "switch language", samples[rows], views[rows], high=len(targets))
            targets_N[rows] = targets[drawn]
        return targets_N

    def find(self, hash_W: UInt64Array, language_W: IntArray, target_W: IntArray) -> IntArray:
        """The entry of each word in its direction, or -1."""
        wanted_W = hash_W ^ _direction(language_W, target_W)
        place_W = np.minimum(np.searchsorted(self.hashes_E, wanted_W), len(self.hashes_E) - 1)
        return np.where((self.hashes_E[place_W] == wanted_W) & (target_W >= 0), place_W, -1)

    def choose_translations(self, entry_W: IntArray, which_W: FloatArray) -> IntArray:
        """The text of one translation of each entry, drawn by senses with `which_W` in [0, 1)."""
        first_W, last_W = self.first_E[entry_W], self.end_E[entry_W] - 1
        before_W = np.where(first_W > 0, self.senses_until_C[first_W - 1], 0.0)
        wanted_W = before_W + which_W * (self.senses_until_C[last_W] - before_W)
        return self.text_C[np.clip(np.searchsorted(self.senses_until_C, wanted_W, side="right"), first_W, last_W)]


@dataclass(frozen=True, eq=False)
class _WordPairs:
    """Pairs in both directions; sources and targets are places in `texts`."""

    texts: Sequence[str]
    source_C: IntArray
    target_C: IntArray
    direction_C: UInt64Array
    senses_C: FloatArray
    language_C: IntArray


def _build(
    pairs: _WordPairs, tokenizer: Any, targets_by_language: Mapping[int, IntArray], counts: Mapping[str, int]
) -> BilingualDictionary:
    words = WordBoundaries.of(tokenizer)
    texts = Ragged.of_lengths(*tokenize_texts(tokenizer, pairs.texts, MAX_PHRASE_TOKENS))
    is_word, is_joined, hashes = _find_words(texts, pairs.texts, tokenizer, words)
    capitals = [_capital(text) for text in pairs.texts]
    capital_texts = Ragged.of_lengths(*tokenize_texts(tokenizer, capitals, MAX_PHRASE_TOKENS))
    is_capital_word, _, capital_hashes = _find_words(capital_texts, capitals, tokenizer, words)
    is_capital_word &= capital_hashes != hashes

    different_C = pairs.source_C != pairs.target_C
    sayable_C = (_is_known(texts, tokenizer) & _has_letter(pairs.texts))[pairs.target_C]
    small = np.flatnonzero(different_C & sayable_C & is_word[pairs.source_C])
    large = np.flatnonzero(different_C & sayable_C & is_capital_word[pairs.source_C])
    pair_of = np.concatenate([small, large])
    if not len(pair_of):
        raise DataError("no word of the dictionaries can be switched", fix="check that they hold single words")
    found = np.concatenate([hashes[pairs.source_C[small]], capital_hashes[pairs.source_C[large]]])
    found ^= pairs.direction_C[pair_of]
    order = np.argsort(found, kind="stable")
    hashes_E, first_E = np.unique(found[order], return_index=True)
    return BilingualDictionary(
        hashes_E=hashes_E,
        first_E=first_E,
        end_E=np.append(first_E[1:], len(order)),
        senses_until_C=np.cumsum(pairs.senses_C[pair_of[order]]),
        text_C=pairs.target_C[pair_of[order]],
        texts=texts,
        targets_by_language=targets_by_language,
        words=words,
        joined=JoinedWords.of(hashes[is_joined], words),
        lemmas=_lemmas(pairs, is_word, hashes),
        counts={
            **counts,
            "entries": len(hashes_E),
            "phrases, signs or unknown tokens, never found": int((~is_word[pairs.source_C]).sum()),
            "signs or unknown tokens, never put in": int((~sayable_C).sum()),
            "same in both languages": int((~different_C).sum()) // 2,
        },
    )


def _find_words(
    rows: Ragged, texts: Sequence[str], tokenizer: Any, words: WordBoundaries
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_], UInt64Array]:
    """Which texts are one word with a letter, of known tokens; which of these are joined; and the hash of each.

    A bare "▁" before a word is a token of its own in running text too, so words are hashed without it.
    """
    has_mark = np.zeros(len(rows), dtype=bool)
    long = rows.lengths_N > 1
    has_mark[long] = rows.values_T[rows.starts_N[long]] == tokenizer.convert_tokens_to_ids("▁")
    rows = rows.cut(has_mark.astype(np.int64), rows.lengths_N - has_mark)
    is_word = np.bincount(rows.rows_T[words.starts_T(rows)], minlength=len(rows)) == 1
    is_joined = can_be_joined(rows, words)
    is_word |= is_joined
    is_word &= _is_known(rows, tokenizer)
    is_word &= _has_letter(texts)
    hashes = np.zeros(len(rows), dtype=np.uint64)
    found = rows.take(np.flatnonzero(is_word))
    hashes[is_word] = word_hashes(found, found.starts_N)
    return is_word, is_word & is_joined, hashes


def _lemmas(
    pairs: _WordPairs, is_word: npt.NDArray[np.bool_], hashes: UInt64Array
) -> Mapping[int, Mapping[str, np.uint64]]:
    lemmas: dict[int, dict[str, np.uint64]] = {}
    for language in np.unique(pairs.language_C).tolist():
        texts = np.unique(pairs.source_C[pairs.language_C == language])
        lemmas[language] = {pairs.texts[text]: hashes[text] for text in texts[is_word[texts]].tolist()}
    return lemmas


def _is_known(rows: Ragged, tokenizer: Any) -> npt.NDArray[np.bool_]:
    unknown = np.bincount(rows.rows_T[rows.values_T == tokenizer.unk_token_id], minlength=len(rows))
    return (unknown == 0) & (rows.lengths_N > 0)


def _has_letter(texts: Sequence[str]) -> npt.NDArray[np.bool_]:
    return np.fromiter((any(sign.isalpha() for sign in text) for text in texts), dtype=bool, count=len(texts))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _direction(source: npt.ArrayLike, target: npt.ArrayLike) -> UInt64Array:
    return chance.random_bits(0, "direction", source, target)
