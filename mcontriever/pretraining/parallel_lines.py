"""Lines with the same meaning in two languages, from documents that exist in several: courses, guides, manuals.

    pairs = parallel_lines({"en": ["en.jsonl"], "sw": ["sw.jsonl"]}, language="sw", same_part=r"[^/]+/[^/]+/(.+)", ...)

Documents belong together if the groups of `same_part` match the same text in their ids. If an English document and its
translation have the same number of lines, line n of one is taken as the translation of line n of the other.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

from mcontriever.pretraining.dictionaries.dictionary_lines import ENGLISH
from mcontriever.texts.documents import read_documents

MIN_CHARACTERS = 10  # shorter lines are headings, commands and numbers


def parallel_lines(
    paths: Mapping[str, Sequence[str]], *, language: str, same_part: str, counts: Counter[str]
) -> Iterator[tuple[str, str]]:
    """Pairs of an English line and its translation, each pair once."""
    english = _english(tuple(paths[ENGLISH]), same_part)
    seen = set()
    for part, lines in _documents(paths[language], same_part):
        if part not in english:
            counts["documents without an English one"] += 1
        elif len(lines) != len(english[part]):
            counts["documents of more or fewer lines than the English one"] += 1
        else:
            counts["documents"] += 1
            for pair in zip(english[part], lines, strict=True):
                if min(map(len, pair)) >= MIN_CHARACTERS and pair[0] != pair[1] and pair not in seen:
                    seen.add(pair)
                    counts["rows kept"] += 1
                    yield pair


@lru_cache(maxsize=1)  # every other language needs them
def _english(paths: tuple[str, ...], same_part: str) -> dict[tuple[str | None, ...], list[str]]:
    return dict(_documents(paths, same_part))


def _documents(paths: Sequence[str], same_part: str) -> Iterator[tuple[tuple[str | None, ...], list[str]]]:
    for path in paths:
        for document in read_documents(path):
            match = re.fullmatch(same_part, document.id)
            if match:
                yield match.groups(), [line.strip() for line in document.text.splitlines()]
