"""Answer recall: a retrieved passage counts when one of the question's answers stands in it, word for word.

The rules are those of DPR's evaluation, which Contriever uses too: Unicode NFD, words are runs of letters, numbers and
marks, any other visible character is a word of its own, case is ignored, and an answer must appear as consecutive words
of the passage's text (not of its title). One departure: an answer without any word matches nothing; DPR's script would
find it everywhere. For answers in the passages' own language there are MKQA's rules for each language.

Texts become keys, words between newlines, so that consecutive words are a plain substring. Q questions, K hits.
"""

import re
import string
import unicodedata
from collections.abc import Callable, Iterable, Sequence

import numpy as np

KeyOf = Callable[[str], str]

_ARTICLES = {
    "ar": "ال",
    "da": r"\b(?:en|et)\b",
    "de": r"\b(?:ein|eine|einen|einem|eines|einer|der|die|das|den|dem|des)\b",
    "en": r"\b(?:a|an|the)\b",
    "es": r"\b(?:un|una|unos|unas|el|la|los|las)\b",
    "fi": r"\b(?:se|yks|yksi)\b",
    # No word boundary behind French and Italian articles: they then also cut the beginnings of words. MKQA does so.
    "fr": r"\b(?:le|la|l'|les|du|de|d'|des|un|une|des)",
    "hu": r"\b(?:a|az|egy)\b",
    "it": r"\b(?:il|lo|la|l'|i|gli|le|del|dello|della|dell'|dei|degli|degl'|delle|un'|uno|una|un)",
    "nl": r"\b(?:de|het|een|des|der|den)\b",
    "no": r"\b(?:en|et|ei)\b",
    "pt": r"\b(?:o|a|os|as|um|uma|uns|umas)\b",
    "sv": r"\b(?:en|ett)\b",
    "vi": r"\b(?:của|là|cái|chiếc|những)\b",
}
_BY_CHARACTER = ("ja", "km", "th", "zh", "zh_cn", "zh_hk", "zh_tw")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def dpr_key(text: str) -> str:
    words = unicodedata.normalize("NFD", text).translate(_WORDS_APART).split()
    return _key("\n".join(words).lower())


def mkqa_key(language: str) -> KeyOf:
    """MKQA's normalisation for one language: case, ASCII punctuation and articles go; some scripts go by character."""
    articles = re.compile(_ARTICLES[language]) if language in _ARTICLES else None

    def key(text: str) -> str:
        plain = text.lower().translate(_PUNCTUATION)
        if articles is not None:
            plain = articles.sub(" ", plain)
        words = list("".join(plain.split())) if language in _BY_CHARACTER else plain.split()
        return _key("\n".join(words))

    return key


def has_answer(passage_key: str, answer_keys: Iterable[str]) -> bool:
    """Both sides made by the same key function; an empty key never matches."""
    return any(key in passage_key for key in answer_keys if key)


def first_ranks(
    hits_QK: np.ndarray, answer_keys_Q: Sequence[Sequence[str]], passages: Iterable[tuple[int, str]], key_of: KeyOf
) -> np.ndarray:
    """The rank (from 0) of each question's first hit that holds an answer; K where none does.

    `passages` yields (position, text) in ascending order of position and need hold only those in `hits_QK`; each is
    looked at once and forgotten, so memory is the table of hits. A negative hit is no hit.
    """
    count, depth = hits_QK.shape
    ranks_Q = np.full(count, depth, dtype=np.int64)
    flat = np.ascontiguousarray(hits_QK).reshape(-1)
    order = np.argsort(flat, kind="stable")
    next_hit = int(np.searchsorted(flat[order], 0))
    for position, text in passages:
        if next_hit == len(order):
            break
        assert flat[order[next_hit]] >= position, "a passage that was hit is missing from the passages"
        passage_key = None
        while next_hit < len(order) and flat[order[next_hit]] == position:
            question, rank = divmod(int(order[next_hit]), depth)
            next_hit += 1
            if rank >= ranks_Q[question]:
                continue
            passage_key = key_of(text) if passage_key is None else passage_key
            if has_answer(passage_key, answer_keys_Q[question]):
                ranks_Q[question] = rank
    assert next_hit == len(order), "the passages ended before the hits did"
    return ranks_Q


def recall_at(ranks_Q: np.ndarray, depth: int) -> np.ndarray:
    """1.0 for each question with an answer among its first `depth` passages, else 0.0."""
    return (ranks_Q < depth).astype(np.float64)


def _key(joined: str) -> str:
    return f"\n{joined}\n" if joined else ""


class _WordsApart(dict[int, str]):
    """A translation table, filled as characters come up: blanks and spaces around all that is not part of a word."""

    def __missing__(self, code: int) -> str:
        kind = unicodedata.category(chr(code))[0]
        self[code] = chr(code) if kind in "LNM" else " " if kind in "ZC" else f" {chr(code)} "
        return self[code]


_WORDS_APART = _WordsApart()
