"""BM25 as evidence within a language: which words a document shares, weighed by how rare they are in its language.

A Swahili stop word is rare in a store of ten languages and common in Swahili; a name is rare everywhere. So a term's
IDF is that of the document's own language, and a document's share is its part of the maximum in its language. What
the query's terms do in each language also says which languages the query may be in: `own_L`.

Shapes: N rows of the store, L languages.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mcontriever.retrieval.lexical_index import LexicalIndex
from mcontriever.retrieval.term_scores import idf


@dataclass(frozen=True, eq=False)
class Shares:
    """`shares_N` of each row, 0 to 1; `best_L` in each language; `own_L` is 1 in the query's language."""

    shares_N: np.ndarray
    best_L: np.ndarray
    own_L: np.ndarray


@dataclass(frozen=True, eq=False)
class LexicalEvidence:
    """`codes_N` is the language of each row."""

    index: LexicalIndex
    codes_N: np.ndarray
    counts_L: np.ndarray

    @classmethod
    def of(cls, index: LexicalIndex, codes_N: np.ndarray, languages: int) -> "LexicalEvidence":
        return cls(index, codes_N, np.bincount(codes_N, minlength=languages))

    def shares(self, terms: Sequence[str], allowed_N: np.ndarray | None = None) -> Shares:
        """Of the terms of a query, as `index.tokenize` gives them."""
        model, languages = self.index.model, len(self.counts_L)
        known = Counter(model.get_tokens_ids(terms))
        scores_N, familiar_L = np.zeros(len(self.codes_N), dtype=np.float32), np.zeros(languages)
        attainable_L = (len(terms) - known.total()) * idf(self.counts_L, np.zeros(languages))
        for term, times in known.items():
            rows, scores = self._postings(term)
            codes = self.codes_N[rows]
            with_term_L = np.bincount(codes, minlength=languages)
            idf_L = idf(self.counts_L, with_term_L)
            overall = idf(len(self.codes_N), np.array(len(rows)))
            scores_N[rows] += scores * (times * idf_L / overall).astype(np.float32)[codes]
            attainable_L += times * idf_L
            familiar_L += times * with_term_L / np.maximum(self.counts_L, 1)
        scores_N /= np.maximum(attainable_L, 1e-9).astype(np.float32)[self.codes_N]
        if allowed_N is not None:
            scores_N[~allowed_N] = 0
        best_L = np.zeros(languages, dtype=np.float32)
        found = np.flatnonzero(scores_N)
        np.maximum.at(best_L, self.codes_N[found], scores_N[found])
        return Shares(scores_N, best_L, familiar_L / max(float(familiar_L.max(initial=0)), 1e-9))

    def _postings(self, term: int) -> tuple[np.ndarray, np.ndarray]:
        """The rows that have a term, and their BM25 scores with the IDF of the whole store."""
        scores = self.index.model.scores
        part = slice(int(scores["indptr"][term]), int(scores["indptr"][term + 1]))
        return scores["indices"][part], scores["data"][part]


def root_mean_square(parts: Sequence[Shares]) -> Shares:
    """Several kinds of terms as one: words and subwords disagree where a language joins its words."""
    if len(parts) == 1:
        return parts[0]

    def together(name: str) -> np.ndarray:
        found: np.ndarray = np.sqrt(np.mean([np.square(getattr(part, name)) for part in parts], axis=0))
        return found

    return Shares(together("shares_N"), together("best_L"), together("own_L"))
