"""Move a staged shard to its final folder, without the documents that duplicate an earlier one.

Like staging, a pure function whose result appears by one rename, in memory that does not grow with the shard.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mcontriever.disk import atomic_folder, read_json, sync_folder
from mcontriever.preparation.filters import Tally
from mcontriever.preparation.npy_writer import NpyWriter
from mcontriever.preparation.shard_folder import DUPLICATE_REASONS, RECORD, Settings, write_record

DOCUMENTS_AT_ONCE = 1 << 18
TOKENS_AT_ONCE = 1 << 22

Marks = dict[str, npt.NDArray[np.bool_]]


def finish_shard(shard: int, settings: Settings) -> None:
    """Make the shard's final folder of its staged one."""
    staged, finished = settings.staged(shard), settings.finished(shard)
    finished.parent.mkdir(exist_ok=True)
    marks: Marks = {
        reason: np.load(path, mmap_mode="r")
        for reason in DUPLICATE_REASONS
        if (path := settings.of_documents(shard, reason)).is_file()
    }
    if not marks:
        os.replace(staged, finished)
        sync_folder(finished.parent)
        return
    record = read_json(staged / RECORD)
    tallies = {language: Tally.of_record(counted) for language, counted in record["languages"].items()}
    numbers = {
        language: counted["number"]
        for language, counted in record["languages"].items()
        if counted["number"] is not None
    }
    documents = np.load(settings.of_documents(shard, "documents"), mmap_mode="r")
    with atomic_folder(finished) as folder:
        with ExitStack() as stack:
            copies = {
                number: _Copy(language, tallies[language], staged, folder, record["source"], stack)
                for language, number in numbers.items()
            }
            for start in range(0, len(documents), DOCUMENTS_AT_ONCE):
                rows = np.asarray(documents[start : start + DOCUMENTS_AT_ONCE])
                for number in np.unique(rows[:, 0]).tolist():
                    mine = rows[:, 0] == number
                    copies[number].take(
                        rows[mine], {why: marked[start:][: len(rows)][mine] for why, marked in marks.items()}
                    )
        for language in numbers:
            if not tallies[language].kept:
                _remove_files(folder, language)
        write_record(folder, shard, record["source"], tallies, numbers, record["damaged"])
    shutil.rmtree(staged)


class _Copy:
    """Copies the documents of one language from the staged files to the final ones."""

    def __init__(self, language: str, tally: Tally, staged: Path, folder: Path, source: str, stack: ExitStack) -> None:
        self._tally, self._source, self._done = tally, source, 0
        self._old_tokens = np.load(staged / f"{language}.tokens.npy", mmap_mode="r")
        self._old_offsets = np.load(staged / f"{language}.offsets.npy", mmap_mode="r")
        self._tokens = stack.enter_context(NpyWriter(folder / f"{language}.tokens.npy", self._old_tokens.dtype))
        self._offsets = stack.enter_context(NpyWriter(folder / f"{language}.offsets.npy", "<i8"))
        self._offsets.append(np.zeros(1, dtype=np.int64))

    def take(self, rows: npt.NDArray[np.uint64], marks: Marks) -> None:
        """Copy the next documents that are not marked, and count those that are."""
        for reason, marked in marks.items():
            self._count_dropped(reason, rows[marked])
        keep = ~np.logical_or.reduce(list(marks.values()))
        offsets = np.asarray(self._old_offsets[self._done : self._done + len(rows) + 1])
        lengths = np.diff(offsets)[keep]
        before = self._tokens.rows
        for first, last in _runs(keep):
            for start in range(offsets[first], offsets[last], TOKENS_AT_ONCE):
                self._tokens.append(self._old_tokens[start : min(start + TOKENS_AT_ONCE, offsets[last])])
        self._offsets.append(before + np.cumsum(lengths))
        self._done += len(rows)

    def _count_dropped(self, reason: str, rows: npt.NDArray[np.uint64]) -> None:
        if not len(rows):
            return
        self._tally.kept -= len(rows)
        self._tally.text_bytes -= int(rows[:, 2].sum())
        self._tally.dropped.add(reason, len(rows), (f"{self._source}:{line}" for line in rows[:, 1]))


def _runs(keep: npt.NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """First and one past the last of each run of documents to keep."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], keep, [False]])))
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)


def _remove_files(folder: Path, language: str) -> None:
    for kind in ("tokens", "offsets"):
        (folder / f"{language}.{kind}.npy").unlink()
