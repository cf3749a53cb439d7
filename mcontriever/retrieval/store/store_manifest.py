"""A store's manifest.json, the only record of which files belong to it.

    manifest.json           replaced in one step when a run (embed, append, replace, delete, compact) is complete
    vectors-00000.npy       one row per passage; scales-00000.npy beside it for int8
    documents-00000.parquet the same rows: id, language, passage number, title, text
    deleted-00003.npy       numbers of deleted rows, which no search returns
    pending.json, shard-00000.json   an unfinished run: its plan and the shards that are done; removed on completion

Files named in the manifest never change. A changed file gets a new name, so readers are never disturbed.
"""

import hashlib
import os
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import pydantic

from mcontriever.amounts import shown_size
from mcontriever.disk import read_json, write_json
from mcontriever.errors import StoreError
from mcontriever.evidence_rule import EvidenceRule
from mcontriever.output_folder import COPY_FIRST, require_local
from mcontriever.records import Count, checked_record
from mcontriever.retrieval.store.passages import PassageLength

FORMAT: Literal["mcontriever store"] = "mcontriever store"
VERSION: Literal[1] = 1
MANIFEST, PENDING = "manifest.json", "pending.json"
VectorType = Literal["fp32", "fp16", "int8"]


class Entry(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class FileEntry(Entry):
    """`edges` is the checksum of the first and last block; stores of version 0.1.0 have none."""

    bytes: Count
    sha256: str
    edges: str | None = None


class ShardEntry(Entry):
    """`start` and `stop` are its documents' positions in the corpus of its run, empty documents included.

    `removed_ids` were deleted and compacted; `truncated` rows were longer than the encoder's limit. The languages of
    `detected_languages` rows were detected; those of language "" are unknown. `text_languages` counts the rows that are
    plainly in another language than named.
    """

    number: Count
    run: str
    start: Count
    stop: Count
    rows: Count
    documents: Count
    languages: dict[str, Count]
    detected_languages: Count = 0
    text_languages: dict[str, Count] = {}
    empty_ids: list[str]
    removed_ids: list[str] = []
    truncated: Count = 0
    files: dict[str, FileEntry]

    @pydantic.model_validator(mode="after")
    def _check_names(self) -> "ShardEntry":
        """No other file is opened, hashed or replaced, whatever a manifest says."""
        known = {f"vectors-{self.number:05}.npy", f"scales-{self.number:05}.npy", self.documents_file}
        if self.documents_file not in self.files or not self.files.keys() <= known:
            raise ValueError(f"the files are {', '.join(self.files)}; they must be among {', '.join(sorted(known))}")
        return self

    @property
    def documents_file(self) -> str:
        return f"documents-{self.number:05}.parquet"


class EncoderEntry(Entry):
    """`evidence_rule` is what the model says of itself, or the default; it changes no vector. None: an older store."""

    model: str
    fingerprint: str
    spec: dict[str, Any]
    evidence_rule: EvidenceRule | None = None


class Layout(Entry):
    """What is the same for all shards of a store."""

    encoder: EncoderEntry | None
    dtype: VectorType
    dimension: Count
    keeps_text: bool
    passage_words: int | None
    passage_overlap: int | None

    def of_rows(self) -> str:
        """What decides what the rows are, as JSON; how a search weighs them does not."""
        return self.model_dump_json(exclude={"encoder": {"evidence_rule"}})

    @property
    def passage_length(self) -> PassageLength | None:
        return None if self.passage_words is None else PassageLength(self.passage_words, self.passage_overlap or 0)


def _with_path(corpus: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(corpus.get("path"), str):
        raise ValueError("the corpus has no path")
    return corpus


class RunEntry(Entry):
    """One embed, append or replace. `request` is a hash of its settings, `content` of all documents."""

    id: str
    request: str
    precision: str
    mode: Literal["new", "append", "replace"]
    corpus: Annotated[dict[str, Any], pydantic.AfterValidator(_with_path)]
    corpus_state: list[list[Any]]
    content: str
    documents: int
    empty: int
    characters: int
    languages: dict[str, int]
    detects_languages: bool = False
    shard_ends: list[int]
    first_shard: int
    generation: int


class DeletedEntry(FileEntry):
    name: Annotated[str, pydantic.Field(pattern=r"^deleted-\d+\.npy$")]
    rows: Count
    documents: Count


class Manifest(Entry):
    format: Literal["mcontriever store"] = FORMAT
    version: Literal[1] = VERSION
    generation: Count
    next_shard: Count
    layout: Layout
    shards: list[ShardEntry]
    deleted: DeletedEntry | None
    runs: list[RunEntry]

    @pydantic.model_validator(mode="after")
    def _check_files(self) -> "Manifest":
        arrays = {"vectors", *(["scales"] if self.layout.dtype == "int8" else [])} if self.layout.encoder else set()
        for shard in self.shards:
            if missing := {f"{name}-{shard.number:05}.npy" for name in arrays} - shard.files.keys():
                raise ValueError(f"shard {shard.number} has no {', '.join(sorted(missing))}")
        return self

    @property
    def rows(self) -> int:
        return sum(shard.rows for shard in self.shards)

    @property
    def documents(self) -> int:
        return sum(shard.documents for shard in self.shards) - (self.deleted.documents if self.deleted else 0)

    def rows_fingerprint(self) -> str:
        """Equal iff two stores hold the same rows in the same order, deleted ones included."""
        digest = hashlib.sha256(self.layout.of_rows().encode())
        for shard in self.shards:
            for name, file in sorted(shard.files.items()):
                digest.update(f"{name.split('-')[0]} {file.sha256}\n".encode())
        return digest.hexdigest()

    def live_fingerprint(self) -> str:
        """Equal iff a search over the two stores finds the same."""
        deleted = self.deleted.sha256 if self.deleted else ""
        return hashlib.sha256(f"{self.rows_fingerprint()}{deleted}".encode()).hexdigest()

    def described(self) -> str:
        empty = sum(run.empty for run in self.runs)
        passages = f" in {self.rows:,} passages" if self.layout.passage_words else ""
        omitted = f", {empty:,} empty ones omitted" if empty else ""
        size = shown_size(sum(file.bytes for shard in self.shards for file in shard.files.values()))
        return f"{self.documents:,} documents{passages}{omitted}, {len(self.shards):,} shards, {size}"


class Plan(Entry):
    """pending.json: an unfinished run, and the layout it writes."""

    run: RunEntry
    layout: Layout
    base_generation: int


AnyEntry = TypeVar("AnyEntry", bound=Entry)


def read_manifest(folder: str | Path) -> Manifest:
    folder = Path(folder)
    manifest = find_manifest(folder)
    if manifest is None:
        if (folder / PENDING).exists():
            raise _unfinished(folder)
        require_local(folder, COPY_FIRST)
        raise StoreError(
            "no store here (no manifest.json)", where=folder, fix="make one: mcontriever embed CORPUS --output STORE"
        )
    return manifest


def find_manifest(folder: Path) -> Manifest | None:
    """None for a new store, or one whose first run is not complete."""
    return _read(Manifest, folder / MANIFEST) if os.path.lexists(folder / MANIFEST) else None


def read_plan(folder: str | Path) -> Plan | None:
    path = Path(folder) / PENDING
    return _read(Plan, path) if path.exists() else None


def read_shard_entry(folder: str | Path, number: int) -> ShardEntry | None:
    path = shard_entry_path(folder, number)
    return _read(ShardEntry, path) if path.exists() else None


def write_entry(path: Path, entry: Entry) -> None:
    write_json(path, entry.model_dump(mode="json"))


def shard_entry_path(folder: str | Path, number: int) -> Path:
    return Path(folder) / f"shard-{number:05}.json"


def _read(model: type[AnyEntry], path: Path) -> AnyEntry:
    values = read_json(path)
    if model is Manifest and (not isinstance(values, dict) or values.get("format") != FORMAT):
        raise StoreError("not the manifest of a store", where=path, fix="give a folder that mcontriever embed made")
    if model is Manifest and values.get("version") != VERSION:
        raise StoreError(
            f"the store has version {values.get('version')}, this mcontriever reads {VERSION}",
            where=path,
            fix="embed the corpus again, or use the mcontriever that made the store",
        )
    return checked_record(values, model, path, fix="restore the file from a copy, or embed the corpus again")


def _unfinished(folder: Path) -> StoreError:
    plan = read_plan(folder)
    assert plan is not None
    done = len(list(folder.glob("shard-*.json")))
    return StoreError(
        f"this store is not complete: {done} of {len(plan.run.shard_ends)} shards are done",
        where=folder,
        fix="run the same mcontriever embed command again to finish it",
    )
