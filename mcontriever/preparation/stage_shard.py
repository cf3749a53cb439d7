"""The work on one source shard: read, filter, normalise, tokenize, write.

A pure function of its arguments. Its folder appears by one rename, so a kill at any moment leaves nothing half done,
and a repeated run gives the same bytes. Memory does not grow with the shard.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mcontriever.disk import atomic_folder, atomic_path
from mcontriever.errors import DataError
from mcontriever.preparation.duplicates import near_duplicate_keys, text_key
from mcontriever.preparation.filters import OTHER, Tally, language_of
from mcontriever.preparation.normalise import normaliser
from mcontriever.preparation.npy_writer import NpyWriter, TokenWriter
from mcontriever.preparation.readers import read_shard
from mcontriever.preparation.shard_folder import DOCUMENT_COLUMNS, Settings, write_record
from mcontriever.preparation.source_document import Damage, SourceDocument
from mcontriever.preparation.source_plan import Job
from mcontriever.preparation.text_to_tokens import tokenize

BATCH_DOCUMENTS = 512
BATCH_CHARACTERS = 1 << 18


def stage_shard(job: Job, settings: Settings) -> None:
    """Read the shard once and write the tokens of all documents that its filters keep."""
    number = job.shard.number
    columns = int(settings.exact)
    if settings.near_similarity is not None:
        columns += near_duplicate_keys(settings.near_similarity).bands
    # The files about documents are renamed first: a staged folder means that all of them exist.
    with (
        atomic_folder(settings.staged(number)) as folder,
        atomic_path(settings.of_documents(number, "documents")) as documents,
        atomic_path(settings.of_documents(number, "keys")) as keys,
    ):
        with ExitStack() as stack:
            output = _Output(
                job,
                folder,
                settings,
                stack,
                documents=stack.enter_context(NpyWriter(documents, "<u8", (len(DOCUMENT_COLUMNS),))),
                keys=stack.enter_context(NpyWriter(keys, "<u8", (columns,))),
            )
            for batch in _batches(_candidates(job, output)):
                _write_batch(batch, job, output)
        numbers = {language: place for place, language in enumerate(output.writers)}
        write_record(folder, number, job.shard.name, output.tallies, numbers, output.damaged)


def kept_texts(job: Job, normalisation: str) -> Iterator[tuple[str, str]]:
    """Language and text of every document that the filters keep; nothing is counted or written."""
    normalise = normaliser(normalisation)
    for item in read_shard(job.shard):
        if isinstance(item, SourceDocument):
            language, text, reason = _judge(item, job, normalise)
            if reason is None:
                yield language, text


def _candidates(job: Job, output: _Output) -> Iterator[_Candidate]:
    normalise = normaliser(output.settings.normalisation)
    for item in read_shard(job.shard):
        if isinstance(item, Damage):
            output.count_damage(item)
            continue
        language, text, reason = _judge(item, job, normalise)
        tally = output.tally(language)
        tally.read += 1
        if reason is None:
            yield _Candidate(item.line, language, text)
        else:
            tally.dropped.count(reason, f"{job.shard.name}:{item.line}")


def _judge(document: SourceDocument, job: Job, normalise: Callable[[str], str]) -> tuple[str, str, str | None]:
    """The document's language, its text as it will be tokenized, and the reason for dropping it, if there is one."""
    language, wanted = language_of(document, job.shard.language, job.shard.languages)
    reason = job.rules.reason_against(document, job.shard.bucket) if wanted else "wrong_language"
    if reason is not None:
        return language, "", reason
    with_title = f"{document.title}\n{document.text}" if job.titles and document.title else document.text
    text = normalise(with_title)
    return language, text, job.rules.reason_against_text(text)


def _batches(candidates: Iterator[_Candidate]) -> Iterator[list[_Candidate]]:
    """Enough to keep the tokenizer busy, and bounded in characters, so that long documents cost no memory."""
    batch, characters = list[_Candidate](), 0
    for candidate in candidates:
        batch.append(candidate)
        characters += len(candidate.text)
        if len(batch) == BATCH_DOCUMENTS or characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _write_batch(batch: list[_Candidate], job: Job, output: _Output) -> None:
    token_ids = tokenize([candidate.text for candidate in batch], output.settings.tokenizer_file)
    rows, keys = list[list[int]](), list[list[int]]()
    for candidate, ids in zip(batch, token_ids, strict=True):
        tally = output.tally(candidate.language)
        if len(ids) < job.rules.min_tokens:
            tally.dropped.count("too_few_tokens", f"{job.shard.name}:{candidate.line}")
            continue
        number = output.write(candidate.language, ids)
        text_bytes = len(candidate.text.encode())
        tally.kept += 1
        tally.text_bytes += text_bytes
        rows.append([number, candidate.line, text_bytes])
        keys.append(output.duplicate_keys(candidate.text))
    if rows:
        output.documents.append(np.array(rows, dtype=np.uint64))
        output.keys.append(np.array(keys, dtype=np.uint64))


class _Candidate(NamedTuple):
    """A document that passed every filter that needs no tokens."""

    line: int
    language: str
    text: str


@dataclass
class _Output:
    """The open files and counts of the shard that is being written."""

    job: Job
    folder: Path
    settings: Settings
    stack: ExitStack
    documents: NpyWriter
    keys: NpyWriter
    tallies: dict[str, Tally] = field(default_factory=dict)
    writers: dict[str, TokenWriter] = field(default_factory=dict)
    damaged: list[dict[str, Any]] = field(default_factory=list)

    def tally(self, language: str) -> Tally:
        return self.tallies.setdefault(language, Tally())

    def count_damage(self, damage: Damage) -> None:
        shard, what = self.job.shard, damage.what
        place = f"{shard.name}:{damage.line}"
        if self.settings.strict:
            raise DataError(f"{damage.reason}: {what}", where=place, fix="fix the source, or run without --strict")
        if damage.whole_file:
            self.damaged.append({"path": shard.name, "line": damage.line, "reason": damage.reason, "what": what})
            return
        only = set(shard.languages.values())
        tally = self.tally(shard.language or (only.pop() if len(only) == 1 else OTHER))
        tally.read += 1
        tally.dropped.count(damage.reason, place, what)

    def write(self, language: str, ids: np.ndarray) -> int:
        """Returns the language's number; a language without documents has no files."""
        if language not in self.writers:
            writer = TokenWriter(self.folder, language, self.settings.token_dtype, len(self.writers))
            self.writers[language] = self.stack.enter_context(writer)
        self.writers[language].append(ids)
        return self.writers[language].number

    def duplicate_keys(self, text: str) -> list[int]:
        keys = [text_key(text)] if self.settings.exact else []
        if self.settings.near_similarity is not None:
            keys.extend(near_duplicate_keys(self.settings.near_similarity).of(text).tolist())
        return keys
