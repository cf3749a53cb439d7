"""Move a staged shard to its final folder, without the documents that duplicate an earlier one.

Like staging, a pure function whose result appears by one rename, in memory that does not grow with the shard. An engine
that lost a worker may call it once more.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mcontriever.disk import atomic_folder, read_json, sync_folder
from mcontriever.npy_files import mapped
from mcontriever.preparation.filters import Tally
from mcontriever.preparation.npy_writer import TokenWriter
from mcontriever.preparation.shard_folder import DUPLICATE_REASONS, RECORD, Settings, write_record

DOCUMENTS_AT_ONCE = 1 << 18
TOKENS_AT_ONCE = 1 << 22

Marks = dict[str, npt.NDArray[np.bool_]]


def finish_shard(shard: int, settings: Settings) -> None:
    """Make the shard's final folder from its staged one."""
    staged, finished = settings.staged(shard), settings.finished(shard)
    finished.parent.mkdir(exist_ok=True)
    if finished.is_dir():
        shutil.rmtree(staged, ignore_errors=True)
        return
    marks: Marks = {
        reason: mapped(path) for reason in DUPLICATE_REASONS if (path := settings.of_documents(shard, reason)).is_file()
    }
    if not marks:
        os.replace(staged, finished)
        sync_folder(finished.parent)
        return
    record = read_json(staged / RECORD)
    tallies = {language: Tally.of_record(counted) for language, counted in record["languages"].items()}
    numbers = {name: counted["number"] for name, counted in record["languages"].items() if counted["files"]}
    documents = mapped(settings.of_documents(shard, "documents"))
    with atomic_folder(finished) as folder:
        with ExitStack() as stack:
            copies = {
                number: _Copy(language, tallies[language], staged, folder, record["source"], stack)
                for language, number in numbers.items()
            }
            for start in range(0, len(documents), DOCUMENTS_AT_ONCE):
                block = slice(start, start + DOCUMENTS_AT_ONCE)
                rows = documents[block]
                for number in np.unique(rows[:, 0]).tolist():
                    own = rows[:, 0] == number
                    copies[number].take(rows[own], {why: marked[block][own] for why, marked in marks.items()})
        for language in numbers:
            if not tallies[language].kept:
                for path in folder.glob(f"{language}.*.npy"):
                    path.unlink()
        write_record(folder, shard, record["source"], tallies, numbers, record["damaged"])
    shutil.rmtree(staged)


class _Copy:
    """Copies the documents of one language from the staged files to the final ones."""

    def __init__(self, language: str, tally: Tally, staged: Path, folder: Path, source: str, stack: ExitStack) -> None:
        self._tally, self._source, self._done = tally, source, 0
        self._old_tokens = mapped(staged / f"{language}.tokens.npy")
        self._old_offsets = mapped(staged / f"{language}.offsets.npy")
        self._new = stack.enter_context(TokenWriter(folder, language, self._old_tokens.dtype, 0))

    def take(self, rows: npt.NDArray[np.uint64], marks: Marks) -> None:
        """Copy the next documents that are not marked, and count those that are."""
        for reason, marked in marks.items():
            self._count_dropped(reason, rows[marked])
        keep = ~np.logical_or.reduce(list(marks.values()))
        offsets = self._old_offsets[self._done : self._done + len(rows) + 1]
        before = self._new.tokens.rows
        for first, last in _runs(keep):
            for start in range(offsets[first], offsets[last], TOKENS_AT_ONCE):
                self._new.tokens.append(self._old_tokens[start : min(start + TOKENS_AT_ONCE, offsets[last])])
        self._new.offsets.append(before + np.cumsum(np.diff(offsets)[keep]))
        self._done += len(rows)

    def _count_dropped(self, reason: str, rows: npt.NDArray[np.uint64]) -> None:
        if len(rows):
            self._tally.kept -= len(rows)
            self._tally.text_bytes -= int(rows[:, 2].sum())
            self._tally.dropped.add(reason, len(rows), (f"{self._source}:{line}" for line in rows[:, 1]))


def _runs(keep: npt.NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """First and one past the last of each run of documents to keep."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], keep, [False]])))
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
