"""The file of a bilingual dictionary: lines of english TAB foreign TAB shared senses (optional).

    read_dictionary("en-sw.tsv.gz")        ("dog", "mbwa", 3.0), ...

It may have a header. Words are returned as running text spells them.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

from mcontriever.errors import ConfigError, DataError
from mcontriever.texts.streams import read_lines

ENGLISH = "en"
_PLUS_IN_WORD = re.compile(r"(?<=\w)\+(?=\w)")


def read_dictionary(path: str) -> Iterator[tuple[str, str, float]]:
    for number, line in read_lines(path):
        columns = line.decode("utf-8", errors="replace").rstrip("\r").split("\t")
        if columns == [""]:
            continue
        english, foreign, senses = (*columns, "1", "1")[:3]
        if number == 1 and len(columns) == 3 and not senses.isdigit():
            continue  # the header
        if len(columns) not in (2, 3) or not senses.isdigit():
            raise DataError(
                f"expected english, foreign and a number of senses, found {columns}",
                where=f"{path}:{number}",
                fix="give three columns separated by tabs",
            )
        yield _plain(english), _plain(foreign), float(senses)


def read_dictionaries(
    paths: Mapping[str, str], languages: Sequence[str]
) -> tuple[list[tuple[int, str, str, float]], int]:
    """(language number, english, foreign, senses) of all files, and how many lines lack one of the words.

    `paths` are by foreign language; a language's number is its position in `languages`.
    """
    _check_languages(paths, languages)
    lines = [(languages.index(language), *line) for language in paths for line in read_dictionary(paths[language])]
    pairs = [line for line in lines if line[1] and line[2]]
    return pairs, len(lines) - len(pairs)


def _check_languages(paths: Mapping[str, str], languages: Sequence[str]) -> None:
    unknown = sorted({ENGLISH, *paths} - set(languages))
    if unknown:
        raise ConfigError(
            f"dictionaries need the languages {', '.join(unknown)}, but the data has {', '.join(languages)}",
            fix="omit these dictionaries, or add the languages to the data",
        )


def _plain(word: str) -> str:
    """Wordnets write "_" for a space, and some write "+" between the parts of a word."""
    return _PLUS_IN_WORD.sub("", word.replace("_", " ")).strip()
