"""Questions with answers, as DPR's and MKQA's files hold them.

dpr    question TAB ['answer', 'other answer']           (nq-test.qa.csv, trivia-test.qa.csv.gz, ...)
mkqa   one JSON object a line with questions and answers in 26 languages (mkqa.jsonl.gz)
"""

import ast
import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcontriever.errors import DataError
from mcontriever.texts.json_lines import read_json_objects
from mcontriever.texts.streams import read_lines

# Contriever's cross-lingual setting omits the questions without a short answer.
_NO_SHORT_ANSWER = ("unanswerable", "binary", "long_answer")


@dataclass(frozen=True)
class Question:
    id: str
    text: str
    answers: tuple[str, ...]


def read_questions(path: Path, layout: str, language: str) -> list[Question]:
    """The questions in `language`; MKQA's answers are the English ones, since the passages are English."""
    if not path.is_file():
        raise DataError("no such file", where=path, fix="download it with mcontriever benchmark --prefetch FOLDER")
    questions = list(_dpr_questions(path) if layout == "dpr" else _mkqa_questions(path, language))
    if not questions:
        raise DataError(f"no question in {language!r}", where=path, fix="check the language and the file")
    return questions


def _dpr_questions(path: Path) -> Iterator[Question]:
    lines = (line.decode("utf-8", errors="replace") for _, line in read_lines(str(path)))
    reader = csv.reader(lines, delimiter="\t")
    for row in reader:
        place = f"{path}:{reader.line_num}"
        try:
            text, answers = row[0], ast.literal_eval(row[1])
            yield Question(str(reader.line_num), text, tuple(str(answer) for answer in answers))
        except (IndexError, ValueError, SyntaxError, TypeError) as error:
            fix = "the file is DPR's: question TAB ['answer', ...]"
            raise DataError(f"not a question and a list of answers: {row!r}", where=place, fix=fix) from error


def _mkqa_questions(path: Path, language: str) -> Iterator[Question]:
    for number, record in read_json_objects(path):
        try:
            example: Any = record
            kept = [answer for answer in example["answers"]["en"] if answer["type"] not in _NO_SHORT_ANSWER]
            texts = [text for answer in kept for text in (*answer.get("aliases", []), answer["text"]) if text]
            if texts:
                yield Question(str(example["example_id"]), example["queries"][language], tuple(texts))
        except (KeyError, TypeError) as error:
            fix = "the file is MKQA's: example_id, queries and answers by language"
            raise DataError(f"not an example with {language!r}: {error}", where=f"{path}:{number}", fix=fix) from error
