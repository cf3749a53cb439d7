"""The manifest of a folder that `mcontriever prepare` wrote, and what is checked before any of its files is read."""

from pathlib import Path
from typing import Any, NotRequired

import numpy as np
import pydantic
from typing_extensions import TypedDict

from mcontriever.disk import read_json
from mcontriever.errors import StoreError
from mcontriever.npy_files import mapped, read_header
from mcontriever.output_folder import COPY_FIRST, require_local
from mcontriever.records import Count, InnerPath, checked_record

FORMAT = "mcontriever-tokens-1"
MANIFEST = "manifest.json"
TOKEN_TYPES = (np.dtype("<u2"), np.dtype("<u4"))
REPAIR = "restore it from a backup, or run `mcontriever prepare` with --restart"


class _Extensible(TypedDict):
    __pydantic_config__ = pydantic.ConfigDict(extra="allow")  # type: ignore[misc]


class TokenShard(_Extensible):
    shard: Count
    language: str
    tokens_file: InnerPath
    offsets_file: InnerPath
    bytes: dict[InnerPath, Count]
    sha256: dict[InnerPath, str]


class TokenizerFacts(_Extensible):
    name: str
    fingerprint: str
    vocabulary: NotRequired[Count]


class TokenManifest(_Extensible):
    tokenizer: TokenizerFacts
    shards: list[TokenShard]


def holds_token_shards(folder: Path) -> bool:
    manifest = read_json(folder / MANIFEST) if (folder / MANIFEST).is_file() else None
    return isinstance(manifest, dict) and manifest.get("format") == FORMAT


def read_token_manifest(folder: Path) -> TokenManifest:
    path = folder / MANIFEST
    if not path.is_file():
        require_local(folder, COPY_FIRST)
        raise StoreError(
            f"no {MANIFEST}: this is not a token store, or its preparation has not finished",
            where=folder,
            fix="run `mcontriever prepare RECIPE --output FOLDER` until its report appears",
        )
    manifest = read_json(path)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        found = manifest.get("format") if isinstance(manifest, dict) else None
        raise StoreError(f"format {found!r}, this version reads {FORMAT!r}", where=folder, fix="prepare the text again")
    return checked_record(manifest, TokenManifest, path, fix=REPAIR)


def check_token_files(folder: Path, shard: TokenShard) -> np.ndarray:
    """Sizes, headers and offsets of a shard; returns the offsets."""
    for name, expected in shard["bytes"].items():
        path = folder / name
        if not path.is_file():
            raise damaged(path, "the file is missing")
        if path.stat().st_size != expected:
            raise damaged(path, f"{path.stat().st_size:,} bytes, the manifest says {expected:,}")
    shape, _, dtype = read_header(folder / shard["tokens_file"], fix=REPAIR)
    if len(shape) != 1 or dtype not in TOKEN_TYPES:
        raise damaged(folder / shard["tokens_file"], f"an array {dtype} {shape} is not a list of tokens")
    offsets = mapped(folder / shard["offsets_file"], fix=REPAIR)
    is_list = offsets.ndim == 1 and offsets.dtype == np.int64 and len(offsets) > 1
    if not is_list or offsets[0] != 0 or offsets[-1] != shape[0] or not (np.diff(offsets) >= 0).all():
        raise damaged(folder / shard["offsets_file"], f"the offsets do not divide {shape[0]:,} tokens into documents")
    return offsets


def damaged(path: Path, what: str) -> StoreError:
    return StoreError(what, where=path, fix=REPAIR)


def check_token_ids(ids: np.ndarray, manifest: TokenManifest, path: Any) -> None:
    """A token that the tokenizer does not have would be read beyond the end of a model's table."""
    vocabulary = manifest["tokenizer"].get("vocabulary")
    if vocabulary is not None and len(ids) and int(ids.max()) >= vocabulary:
        raise damaged(path, f"a token {int(ids.max()):,} of a tokenizer that has {vocabulary:,}")
