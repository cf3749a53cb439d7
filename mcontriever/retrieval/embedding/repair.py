"""Repairing a store: what is damaged, and only that, is made again from the texts it keeps or from the corpus."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mcontriever.errors import DataError, StoreError
from mcontriever.progress import log
from mcontriever.retrieval.embedding.corpus import Corpus
from mcontriever.retrieval.embedding.survey import is_empty, survey
from mcontriever.retrieval.store.passages import Passage, passages_of
from mcontriever.retrieval.store.shard_files import passages_table, shard_arrays, write_shard_files
from mcontriever.retrieval.store.store_check import Damage
from mcontriever.retrieval.store.store_manifest import (
    MANIFEST,
    Manifest,
    RunEntry,
    ShardEntry,
    find_manifest,
    shard_entry_path,
    write_entry,
)
from mcontriever.texts.documents import Document
from mcontriever.texts.language_detection import with_detected_languages

Embed = Callable[[Sequence[Passage]], np.ndarray]


def repair(folder: Path, damage: Sequence[Damage], embed: Embed) -> None:
    """Make damaged files again: vectors from the texts kept in the store, documents from the corpus."""
    for item in damage:
        if item.shard is None:
            raise StoreError(
                "the list of deleted rows is damaged, and it cannot be made again",
                where=folder / item.name,
                fix="restore the file from a copy, or embed the corpus again",
            )
    manifest = find_manifest(folder)
    committed = {shard.number for shard in manifest.shards} if manifest else set()
    for number, shard in {item.shard.number: item.shard for item in damage if item.shard}.items():
        names = {item.name for item in damage if item.shard and item.shard.number == number}
        if manifest is None or number not in committed:
            shard_entry_path(folder, number).unlink()
            log.info(f"{', '.join(sorted(names))} will be made again when the unfinished run is resumed")
            continue
        repaired = _repair_shard(folder, manifest, shard, names, embed)
        updated = [repaired if entry.number == number else entry for entry in manifest.shards]
        manifest = manifest.model_copy(update={"shards": updated})
        write_entry(folder / MANIFEST, manifest)
        log.info(f"made again: {', '.join(sorted(names))}")


def _repair_shard(folder: Path, manifest: Manifest, shard: ShardEntry, names: set[str], embed: Embed) -> ShardEntry:
    documents_name = f"documents-{shard.number:05}.parquet"
    table, passages = None, None
    if documents_name not in names:
        table = _read_table(folder / documents_name)
        passages = _passages_in(table) if manifest.layout.keeps_text else None
    if passages is None:
        passages = _passages_from_corpus(manifest, shard)
        if len(passages) != shard.rows:
            raise StoreError(
                f"the corpus gives {len(passages):,} rows for shard {shard.number}, there were {shard.rows:,}",
                where=folder,
                fix="restore the corpus as it was",
            )
    vectors_damaged = any(name != documents_name for name in names)
    arrays = shard_arrays(embed(passages), passages, manifest.layout.dtype) if vectors_damaged else {}
    if table is None or documents_name in names:
        table = passages_table(passages, manifest.layout.keeps_text)
    files = write_shard_files(folder, shard.number, arrays, table)
    return shard.model_copy(update={"files": {**shard.files, **files}})


def _read_table(path: Path) -> Any:
    from pyarrow import parquet

    return parquet.read_table(path)


def _passages_in(table: Any) -> list[Passage]:
    return [
        Passage(Document(row["id"], row["text"], row["title"], row["language"]), row["part"], row["text"])
        for row in table.to_pylist()
    ]


def _passages_from_corpus(manifest: Manifest, shard: ShardEntry) -> list[Passage]:
    run = next(run for run in manifest.runs if run.id == shard.run)
    corpus = Corpus.from_description(run.corpus)
    _check_corpus(corpus, run)
    documents = next(corpus.ranges([(shard.start, shard.stop)]))
    if run.detects_languages:
        documents = with_detected_languages(documents)
    gone = {*shard.removed_ids, *shard.empty_ids}
    return [
        passage
        for document in documents
        if document.id not in gone and not is_empty(document)
        for passage in passages_of(document, manifest.layout.passage_length)
    ]


def _check_corpus(corpus: Corpus, run: RunEntry) -> None:
    advice = "restore the corpus as it was, restore the store from a copy, or embed again into another store"
    try:
        unchanged = corpus.state() == run.corpus_state or survey(corpus).content == run.content
    except (OSError, DataError) as error:
        raise StoreError("the repair needs the corpus, and it is not there", where=corpus.path, fix=advice) from error
    if not unchanged:
        raise StoreError("the corpus has changed since it was embedded", where=corpus.path, fix=advice)
