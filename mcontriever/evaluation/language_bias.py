"""Language bias in a pool of several languages: do documents in the query's own language displace better ones?

Without bias, the query's language is as frequent in the top k as among the relevant documents. More is bias towards
the query's language, less is bias against it. Languages are only counted here, never used to search.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

TOP_K = 10

Counts = dict[str, dict[str, int]]


@dataclass(frozen=True)
class LanguageCounts:
    """query language -> document language -> count, in the top k and among the relevant; the pool by language."""

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
        top.setdefault(language, Counter()).update(document_languages[document] for document in best_hits(found, k))
        good = (document for document, grade in relevance[query].items() if grade > 0)
        relevant.setdefault(language, Counter()).update(document_languages[document] for document in good)
    return LanguageCounts(k, _plain(top), _plain(relevant), dict(Counter(document_languages.values())))


def best_hits(hits: Mapping[str, float], k: int) -> list[str]:
    """The best k documents; equal scores in the order of pytrec_eval, and so of MTEB."""
    return sorted(hits, key=lambda document: (hits[document], document), reverse=True)[:k]


def merged(counts: list[LanguageCounts]) -> LanguageCounts:
    """One table from the subsets of a task: different query languages over one pool."""
    return LanguageCounts(
        counts[0].k,
        {language: row for part in counts for language, row in part.top.items()},
        {language: row for part in counts for language, row in part.relevant.items()},
        counts[0].pool,
    )


def shares(counts: Counts, query_languages: list[str], document_languages: list[str]) -> list[list[float]]:
    """A row for each query language: the share of each document language. Rows sum to one."""
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
