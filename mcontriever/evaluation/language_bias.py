"""Language bias in a pool of several languages: do documents in the query's own language crowd out better ones?

A retriever without bias fills its top k with the query's language as often as the relevant documents have it. More is
bias towards the own language, less is bias against it. Languages are only counted here, never used to search.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

TOP_K = 10

Counts = dict[str, dict[str, int]]


@dataclass(frozen=True)
class LanguageCounts:
    """query language -> document language -> how many, in the top k and among the relevant; the pool by language."""

    k: int
    top: Counts
    relevant: Counts
    pool: dict[str, int]

    def same_language_share(self, query_language: str) -> tuple[float, float]:
        """The share of the query's own language in the top k, and among the relevant documents."""
        return _own_share(self.top, query_language), _own_share(self.relevant, query_language)

    def to_dict(self) -> dict[str, Any]:
        return {"k": self.k, "top": self.top, "relevant": self.relevant, "pool": self.pool}


def count_languages(
    hits: Mapping[str, Mapping[str, float]],
    relevance: Mapping[str, Mapping[str, int]],
    query_languages: Mapping[str, str],
    document_languages: Mapping[str, str],
    k: int = TOP_K,
) -> LanguageCounts:
    top: dict[str, Counter[str]] = {}
    relevant: dict[str, Counter[str]] = {}
    for query, found in hits.items():
        language = query_languages[query]
        # Equal scores stand in the order in which pytrec_eval, and so MTEB, takes them.
        best = sorted(found.items(), key=lambda item: (item[1], item[0]), reverse=True)[:k]
        top.setdefault(language, Counter()).update(document_languages[document] for document, _ in best)
        good = (document for document, grade in relevance[query].items() if grade > 0)
        relevant.setdefault(language, Counter()).update(document_languages[document] for document in good)
    return LanguageCounts(k, _plain(top), _plain(relevant), dict(Counter(document_languages.values())))


def merged(counts: list[LanguageCounts]) -> LanguageCounts:
    """One table from the subsets of a task, which hold different query languages over one pool."""
    return LanguageCounts(
        counts[0].k,
        {language: row for part in counts for language, row in part.top.items()},
        {language: row for part in counts for language, row in part.relevant.items()},
        counts[0].pool,
    )


def shares(counts: Counts, query_languages: list[str], document_languages: list[str]) -> list[list[float]]:
    """Rows that sum to one: which languages a query of each language gets."""
    table = []
    for language in query_languages:
        row = counts.get(language, {})
        total = sum(row.values())
        table.append([row.get(other, 0) / total if total else 0.0 for other in document_languages])
    return table


def _own_share(counts: Counts, language: str) -> float:
    row = counts.get(language, {})
    total = sum(row.values())
    return row.get(language, 0) / total if total else 0.0


def _plain(counters: dict[str, Counter[str]]) -> Counts:
    return {language: dict(counter) for language, counter in counters.items()}
