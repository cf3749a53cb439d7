"""The files of a run of `mcontriever prepare`, and the record that completes every shard's folder.

staging/00012/             tokens of source shard 12, duplicates still among them
keys/00012.documents.npy   one row per document of it: language, line, text bytes
keys/00012.keys.npy        one row per document: its duplicate keys
keys/00012.REASON.npy      which of its documents are duplicates; missing if none is
shards/00012/              the tokens without duplicates: sw.tokens.npy, sw.offsets.npy, ..., record.json
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcontriever.disk import sha256_of, write_json
from mcontriever.npy_files import mapped
from mcontriever.preparation.filters import Tally

RECORD = "record.json"
FOLDERS = ("staging", "keys", "shards")
DOCUMENT_COLUMNS = ("language", "line", "text_bytes")
DUPLICATE_REASONS = ("duplicate", "near_duplicate")


@dataclass(frozen=True, slots=True)
class Settings:
    """What all shards of a run share. `near_similarity` is None where near-duplicates are kept."""

    folder: Path
    tokenizer_file: Path
    token_dtype: str
    normalisation: str = "none"
    exact: bool = True
    near_similarity: float | None = None
    strict: bool = False

    def staged(self, shard: int) -> Path:
        return self.folder / "staging" / f"{shard:05}"

    def finished(self, shard: int) -> Path:
        return self.folder / "shards" / f"{shard:05}"

    def of_documents(self, shard: int, what: str) -> Path:
        """`what` is documents, keys, or the reason why some are dropped."""
        return self.folder / "keys" / f"{shard:05}.{what}.npy"


def write_record(
    folder: Path,
    shard: int,
    source: str,
    tallies: Mapping[str, Tally],
    numbers: Mapping[str, int],
    damaged: list[dict[str, Any]],
) -> None:
    """The counts, places, files and checksums of a finished folder."""
    languages = {
        language: {
            "number": numbers.get(language),
            **tally.to_record(),
            "files": _describe_files(folder, language) if tally.kept else {},
        }
        for language, tally in sorted(tallies.items())
    }
    write_json(folder / RECORD, {"shard": shard, "source": source, "languages": languages, "damaged": damaged})


def _describe_files(folder: Path, language: str) -> dict[str, Any]:
    described = {}
    for kind in ("tokens", "offsets"):
        path = folder / f"{language}.{kind}.npy"
        rows = mapped(path).shape[0]
        described[kind] = {"rows": rows, "bytes": path.stat().st_size, "sha256": sha256_of(path)}
    return described
