"""Answer recall: a retrieved passage counts if it contains one of the question's answers, word for word.

The rules are those of DPR's evaluation, which Contriever uses too: Unicode NFD, words are runs of letters, numbers and
marks, any other visible character is a word of its own, case is ignored, and an answer must appear as consecutive words
of the passage's text (the title does not count). One difference: an answer without any word matches nothing; DPR's
script would find it everywhere.

Texts become keys: words joined by newlines, so consecutive words are a plain substring. Q questions, K hits.
"""

import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np


def dpr_key(text: str) -> str:
    words = unicodedata.normalize("NFD", text).translate(_WORDS_APART).split()
    return "\n".join(["", *words, ""]).lower() if words else ""


def has_answer(passage_key: str, answer_keys: Iterable[str]) -> bool:
    """All of them keys; an empty one never matches."""
    return any(key in passage_key for key in answer_keys if key)


def first_ranks(
    hits_QK: np.ndarray, answer_keys_Q: Sequence[Sequence[str]], passages: Iterable[tuple[int, str]]
) -> np.ndarray:
    """The rank (from 0) of each question's first hit that contains an answer; K if none does.

    `passages` yields (position, text) by ascending position and needs only those in `hits_QK`. Each is read once and
    dropped, so memory is the table of hits. A negative hit means no hit.
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
            passage_key = dpr_key(text) if passage_key is None else passage_key
            if has_answer(passage_key, answer_keys_Q[question]):
                ranks_Q[question] = rank
    assert next_hit == len(order), "the passages ended before the hits did"
    return ranks_Q


def recall_at(ranks_Q: np.ndarray, depth: int) -> np.ndarray:
    """1.0 for each question with an answer among its first `depth` passages, else 0.0."""
    return (ranks_Q < depth).astype(np.float64)


class _WordsApart(dict[int, str]):
    """A translation table, filled as characters occur: spaces around everything that is not part of a word."""

    def __missing__(self, code: int) -> str:
        kind = unicodedata.category(chr(code))[0]
        self[code] = chr(code) if kind in "LNM" else " " if kind in "ZC" else f" {chr(code)} "
        return self[code]


_WORDS_APART = _WordsApart()
