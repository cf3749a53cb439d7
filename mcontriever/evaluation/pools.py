"""Pools made of parallel documents: each passage in one of its languages only, asked from all of them or from its own.

Documents that answer the same question are versions of one passage, in as many languages as there are. A realistic
mixed corpus has each passage once. The versions that stay are dealt out evenly, in an order of hashes, so the same
folder always gives the same pool.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

from mcontriever.errors import DataError
from mcontriever.evaluation.language_names import short_code
from mcontriever.texts.documents import Document, Query

Pool = Literal["all", "scattered", "own"]
Relevance = dict[str, dict[str, int]]


def scattered(documents: Mapping[str, Document], relevance: Relevance) -> tuple[dict[str, Document], Relevance]:
    """One version of each passage, and the judgements of those that stay. Documents without a judgement stay."""
    return deal_out(documents, relevance, passages_of(documents, relevance))


def deal_out(
    documents: Mapping[str, Document], relevance: Relevance, passages: Sequence[set[str]]
) -> tuple[dict[str, Document], Relevance]:
    """`passages` are sets of documents that are versions of each other."""
    given, removed = Counter[str](), set[str]()
    for versions in sorted(passages, key=lambda versions: hashlib.sha256(min(versions).encode()).hexdigest()):
        languages = _by_language(documents, versions)
        kept = min(languages, key=lambda language: (given[language], language))
        given[kept] += 1
        removed |= set(versions) - {languages[kept]}
    left = {key: document for key, document in documents.items() if key not in removed}
    judged = {
        query: {document: grade for document, grade in grades.items() if document not in removed}
        for query, grades in relevance.items()
    }
    return left, judged


def asked_in_their_own_language(
    documents: Mapping[str, Document], queries: Mapping[str, Query], relevance: Relevance
) -> Relevance:
    """The judgements of documents in the question's language."""
    return {
        query: {
            document: grade
            for document, grade in grades.items()
            if query in queries
            and document in documents
            and short_code(documents[document].language) == short_code(queries[query].language)
        }
        for query, grades in relevance.items()
    }


def passages_of(documents: Mapping[str, Document], relevance: Relevance) -> list[set[str]]:
    """Sets of documents that some question joins."""
    passage_of: dict[str, set[str]] = {}
    for grades in relevance.values():
        together = {document for document, grade in grades.items() if grade > 0 and document in documents}
        for document in list(together):
            together |= passage_of.get(document, set())
        for document in together:
            passage_of[document] = together
    found = {min(versions): versions for versions in passage_of.values()}
    if not any(len(versions) > 1 for versions in found.values()):
        raise DataError(
            "no question is answered by documents in several languages, so there is nothing to scatter",
            fix="give a set with parallel documents, every version of which is judged relevant",
        )
    return list(found.values())


def _by_language(documents: Mapping[str, Document], versions: set[str]) -> dict[str, str]:
    languages: dict[str, str] = {}
    for key in sorted(versions):
        language = short_code(documents[key].language)
        if language in languages:
            raise DataError(
                f"{languages[language]!r} and {key!r} are both in {language or 'an unknown language'} and answer the "
                "same questions, so they are not versions of one passage",
                fix="scatter a set in which each question has one relevant document in each language",
            )
        languages[language] = key
    return languages
