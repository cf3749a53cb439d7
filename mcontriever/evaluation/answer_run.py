"""Answer recall of one model over a store of passages: questions are searched in batches, then texts are read once.

Memory is the table of hits (8 bytes each: 26 languages x 6,620 questions x 100 hits are 138 MB) and the questions.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mcontriever.disk import sha256_of
from mcontriever.errors import DataError
from mcontriever.evaluation.answer_recall import dpr_key, first_ranks, recall_at
from mcontriever.evaluation.language_names import short_code
from mcontriever.evaluation.question_sets import Question, read_questions
from mcontriever.evaluation.results import SubsetScores, is_stored, subset_path
from mcontriever.evaluation.suites import QUESTIONS_FOLDER, PassageFile, QuestionSet, passage_file, question_set
from mcontriever.progress import log, track

if TYPE_CHECKING:
    from mcontriever.evaluation.suite_run import SuiteRun

QUESTIONS_AT_ONCE = 256
PASSAGES_PER_STEP = 10_000


@dataclass(frozen=True)
class Passages:
    """Passages to search: `find(queries, k)` returns rows (-1: none), `texts()` yields every (row, text) in order."""

    count: int
    revision: str
    data_revision: str
    find: Callable[[Sequence[str], int], np.ndarray]
    texts: Callable[[], Iterator[tuple[int, str]]]


@dataclass(frozen=True)
class _Asked:
    """One question set in one language."""

    name: str
    language: str
    data_revision: str
    questions: list[Question]


def measure_answers(run: "SuiteRun", label: str, passages: Passages, folder: Path) -> None:
    """All question sets of the suite in all their languages, with one pass over the texts."""
    suite = run.suite
    sets = [question_set(name) for name in suite.question_sets]
    expected = passage_file(suite.passages) if suite.passages else None
    asked = [
        _asked(entry, language, _question_file(entry, folder), passages)
        for entry in sets
        for language in entry.languages
    ]
    waiting = [one for one in asked if not _stored(run, label, one, passages)]
    if waiting:
        hits_QK = _search(waiting, passages, max(suite.depths))
        keys = [[dpr_key(answer) for answer in question.answers] for one in waiting for question in one.questions]
        ranks_Q = first_ranks(hits_QK, keys, _watched(passages))
        starts = np.cumsum([0, *(len(one.questions) for one in waiting)])
        for one, start, stop in zip(waiting, starts[:-1], starts[1:], strict=True):
            _save(run, label, one, passages, ranks_Q[start:stop])
    for entry in sets:
        about = [one for one in asked if one.name == entry.name]
        subsets = [SubsetScores.load(_path(run, label, one)) for one in about]
        run.add(label, entry.name, subsets, _facts(entry, about, passages, expected))
    run.models[label] = {"name": label, "revision": passages.revision}


def _asked(entry: QuestionSet, language: str, path: Path, passages: Passages) -> _Asked:
    questions = read_questions(path, entry.layout, language)
    if len(questions) != entry.questions:
        log.warning(f"{path}: {len(questions):,} questions instead of {entry.questions:,}; scores are not comparable")
    revision = f"{sha256_of(path)[:16]}-{passages.data_revision[:16]}"
    return _Asked(entry.name, language, revision, questions)


def _question_file(entry: QuestionSet, folder: Path) -> Path:
    for path in (folder / QUESTIONS_FOLDER / entry.file, folder / entry.file):
        if path.is_file():
            return path
    raise DataError(f"no file {entry.file}", where=folder, fix=f"fetch {entry.source}, or run with --prefetch {folder}")


def _search(asked: list[_Asked], passages: Passages, depth: int) -> np.ndarray:
    texts = [question.text for one in asked for question in one.questions]
    hits_QK = np.full((len(texts), depth), -1, dtype=np.int64)
    with track(len(texts), "searching", "questions") as progress:
        for start in range(0, len(texts), QUESTIONS_AT_ONCE):
            found = passages.find(texts[start : start + QUESTIONS_AT_ONCE], depth)
            hits_QK[start : start + len(found), : found.shape[1]] = found
            progress.advance(len(found))
    return hits_QK


def _watched(passages: Passages) -> Iterator[tuple[int, str]]:
    with track(passages.count, "looking for answers", "passages") as progress:
        for row, text in passages.texts():
            yield row, text
            if row % PASSAGES_PER_STEP == PASSAGES_PER_STEP - 1:
                progress.advance(PASSAGES_PER_STEP)


def _save(run: "SuiteRun", label: str, one: _Asked, passages: Passages, ranks_Q: np.ndarray) -> None:
    SubsetScores(
        model=label,
        revision=passages.revision,
        task=one.name,
        data_revision=one.data_revision,
        subset=one.language,
        language=short_code(one.language),
        queries=[question.id for question in one.questions],
        values={f"answer_recall_at_{depth}": recall_at(ranks_Q, depth).tolist() for depth in run.suite.depths},
    ).save(run.output)


def _stored(run: "SuiteRun", label: str, one: _Asked, passages: Passages) -> bool:
    metrics = [f"answer_recall_at_{depth}" for depth in run.suite.depths]
    return is_stored(_path(run, label, one), passages.revision, one.data_revision, metrics)


def _path(run: "SuiteRun", label: str, one: _Asked) -> Path:
    return subset_path(run.output, label, one.name, one.language)


def _facts(
    entry: QuestionSet, asked: list[_Asked], passages: Passages, expected: PassageFile | None
) -> dict[str, object]:
    empty = sum(not any(dpr_key(answer) for answer in question.answers) for one in asked for question in one.questions)
    odd = {"questions whose answers contain no word": empty}
    if expected is not None and passages.count != expected.passages:
        odd[f"of {expected.passages:,} passages in the store: not comparable with published figures"] = passages.count
    return {
        "revision": asked[0].data_revision,
        "split": entry.file,
        "subsets": len(asked),
        "queries": sum(len(one.questions) for one in asked),
        "counts": {what: count for what, count in odd.items() if count},
    }
