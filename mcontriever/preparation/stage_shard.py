"""The work on one source shard: read, filter, normalise, tokenize, write.

A pure function of its arguments. Its folder appears by one rename, so a kill at any moment leaves nothing half done,
and a repeated run gives the same bytes. Memory does not grow with the shard.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mcontriever.disk import atomic_folder, atomic_path
from mcontriever.errors import DataError
from mcontriever.preparation.duplicates import near_duplicate_keys, text_key
from mcontriever.preparation.filters import OTHER, Rules, Tally, language_of
from mcontriever.preparation.normalise import normaliser
from mcontriever.preparation.npy_writer import NpyWriter
from mcontriever.preparation.readers import SourceShard, read_shard
from mcontriever.preparation.shard_folder import DOCUMENT_COLUMNS, Settings, write_record
from mcontriever.preparation.source_text import Damage, Text
from mcontriever.preparation.text_to_tokens import tokenize

BATCH_DOCUMENTS = 512
BATCH_CHARACTERS = 1 << 18


def stage_shard(shard: SourceShard, rules: Rules, titles: bool, settings: Settings) -> None:
    """Read the shard once and write the tokens of all documents that its filters keep."""
    columns = int(settings.exact)
    if settings.near_similarity is not None:
        columns += near_duplicate_keys(settings.near_similarity).bands
    # The files about documents are renamed first: a staged folder means that all of them exist.
    with (
        atomic_folder(settings.staged(shard.number)) as folder,
        atomic_path(settings.of_documents(shard.number, "documents")) as documents,
        atomic_path(settings.of_documents(shard.number, "keys")) as keys,
    ):
        with ExitStack() as stack:
            output = _Output(
                folder,
                settings,
                stack,
                documents=stack.enter_context(NpyWriter(documents, "<u8", (len(DOCUMENT_COLUMNS),))),
                keys=stack.enter_context(NpyWriter(keys, "<u8", (columns,))),
            )
            for batch in _batches(_candidates(shard, rules, titles, output)):
                _write_batch(batch, shard, rules, output)
        numbers = {language: files.number for language, files in output.files.items()}
        write_record(folder, shard.number, shard.name, output.tallies, numbers, output.damaged)


def kept_texts(shard: SourceShard, rules: Rules, titles: bool, normalisation: str) -> Iterator[tuple[str, str]]:
    """Language and text of every document that the filters keep; nothing is counted or written."""
    normalise = normaliser(normalisation)
    for item in read_shard(shard):
        if isinstance(item, Text):
            language, text, reason = _judge(item, shard, rules, titles, normalise)
            if reason is None:
                yield language, text


def _candidates(shard: SourceShard, rules: Rules, titles: bool, output: _Output) -> Iterator[_Candidate]:
    normalise = normaliser(output.settings.normalisation)
    for item in read_shard(shard):
        if isinstance(item, Damage):
            _count_damage(item, shard, output)
            continue
        language, text, reason = _judge(item, shard, rules, titles, normalise)
        tally = output.tally(language)
        tally.read += 1
        if reason is None:
            yield _Candidate(item.line, language, text)
        else:
            tally.dropped.count(reason, f"{shard.name}:{item.line}")


def _judge(
    document: Text, shard: SourceShard, rules: Rules, titles: bool, normalise: Callable[[str], str]
) -> tuple[str, str, str | None]:
    """The document's language, its text as it will be tokenized, and the reason for dropping it, if there is one."""
    language, wanted = language_of(document, shard.language, shard.languages)
    document.bucket = document.bucket or shard.bucket
    reason = rules.reason_against(document) if wanted else "wrong_language"
    if reason is not None:
        return language, "", reason
    with_title = f"{document.title}\n{document.text}" if titles and document.title else document.text
    text = normalise(with_title)
    return language, text, rules.reason_against_text(text)


def _count_damage(damage: Damage, shard: SourceShard, output: _Output) -> None:
    place = f"{shard.name}:{damage.line}"
    if output.settings.strict:
        raise DataError(f"{damage.reason}: {damage.what}", where=place, fix="fix the source, or run without --strict")
    if damage.whole_file:
        output.damaged.append({"path": shard.name, "line": damage.line, "reason": damage.reason, "what": damage.what})
        return
    only = set(shard.languages.values())
    tally = output.tally(shard.language or (only.pop() if len(only) == 1 else OTHER))
    tally.read += 1
    tally.dropped.count(damage.reason, place, damage.what)


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


def _write_batch(batch: list[_Candidate], shard: SourceShard, rules: Rules, output: _Output) -> None:
    token_ids = tokenize([candidate.text for candidate in batch], output.settings.tokenizer_file)
    offsets_of: dict[str, list[int]] = {}
    rows, keys = list[list[int]](), list[list[int]]()
    for candidate, ids in zip(batch, token_ids, strict=True):
        tally = output.tally(candidate.language)
        if len(ids) < rules.min_tokens:
            tally.dropped.count("too_few_tokens", f"{shard.name}:{candidate.line}")
            continue
        files = output.files_of(candidate.language)
        files.tokens.append(ids)
        offsets_of.setdefault(candidate.language, []).append(files.tokens.rows)
        text_bytes = len(candidate.text.encode())
        tally.kept += 1
        tally.text_bytes += text_bytes
        rows.append([files.number, candidate.line, text_bytes])
        keys.append(output.duplicate_keys(candidate.text))
    for language, offsets in offsets_of.items():
        output.files_of(language).offsets.append(np.array(offsets, dtype=np.int64))
    if rows:
        output.documents.append(np.array(rows, dtype=np.uint64))
        output.keys.append(np.array(keys, dtype=np.uint64))


@dataclass(slots=True)
class _Candidate:
    """A document that passed every filter that needs no tokens."""

    line: int
    language: str
    text: str


@dataclass(frozen=True, slots=True)
class _LanguageFiles:
    number: int
    tokens: NpyWriter
    offsets: NpyWriter


@dataclass
class _Output:
    """The open files and counts of the shard that is being written."""

    folder: Path
    settings: Settings
    stack: ExitStack
    documents: NpyWriter
    keys: NpyWriter
    tallies: dict[str, Tally] = field(default_factory=dict)
    files: dict[str, _LanguageFiles] = field(default_factory=dict)
    damaged: list[dict[str, Any]] = field(default_factory=list)

    def tally(self, language: str) -> Tally:
        return self.tallies.setdefault(language, Tally())

    def files_of(self, language: str) -> _LanguageFiles:
        """Opened with the first document, so that a language without documents has no files."""
        if language not in self.files:
            tokens, offsets = (self.folder / f"{language}.{kind}.npy" for kind in ("tokens", "offsets"))
            files = _LanguageFiles(
                number=len(self.files),
                tokens=self.stack.enter_context(NpyWriter(tokens, self.settings.token_dtype)),
                offsets=self.stack.enter_context(NpyWriter(offsets, "<i8")),
            )
            files.offsets.append(np.zeros(1, dtype=np.int64))
            self.files[language] = files
        return self.files[language]

    def duplicate_keys(self, text: str) -> list[int]:
        keys = [text_key(text)] if self.settings.exact else []
        if self.settings.near_similarity is not None:
            keys.extend(near_duplicate_keys(self.settings.near_similarity).of(text).tolist())
        return keys
