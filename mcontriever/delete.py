"""Delete documents from a store by their ids: mcontriever delete STORE ID... [--ids-from FILE] [--compact].

Ids are the user's bytes. A file has one id a line, and only \\n ends a line; FILE.jsonl has JSON strings, or objects
with an id. If an id is not in the store nothing is deleted, unless --missing-ok is given.
"""

from collections.abc import Sequence
from pathlib import Path

import orjson

from mcontriever.amounts import shown_size
from mcontriever.drops import shown
from mcontriever.errors import DataError
from mcontriever.progress import log
from mcontriever.retrieval.store import store_edits, store_runs
from mcontriever.retrieval.store.store_manifest import read_manifest

JSON_SUFFIXES = (".jsonl", ".json", ".ndjson")


def run(
    folder: Path, identifiers: Sequence[str], *, ids_from: Path | None, compact: bool, missing_ok: bool = False
) -> None:
    wanted = [*identifiers, *(_ids_in(ids_from) if ids_from else [])]
    if not wanted and not compact:
        raise DataError("no id was given", where=ids_from, fix="name documents' ids, or a file of them with --ids-from")
    read_manifest(folder)  # a missing store is refused before a lock would make its folder
    with store_runs.writing(folder):
        if wanted:
            deleted, missing = store_edits.delete(folder, wanted, missing_ok=missing_ok)
            log.info(f"deleted {deleted:,} documents")
            if missing:
                log.warning(f"{len(missing):,} ids are not in the store: {shown(missing)}")
        if compact:
            log.info(f"freed {shown_size(store_edits.compact(folder))}")
    log.info(f"{folder}: {read_manifest(folder).described()}")


def _ids_in(path: Path) -> list[str]:
    try:
        lines = path.read_bytes().removesuffix(b"\n").split(b"\n")
    except OSError as error:
        raise DataError(f"the ids cannot be read: {error.strerror}", where=path, fix="give a file of ids") from error
    read = _json_id if path.suffix in JSON_SUFFIXES else _plain_id
    return [read(line, f"{path}:{number}") for number, line in enumerate(lines, start=1) if lines != [b""]]


def _plain_id(line: bytes, where: str) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise DataError(f"the id is not UTF-8: {error.reason}", where=where, fix="convert the file to UTF-8") from error


def _json_id(line: bytes, where: str) -> str:
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise DataError(f"not a JSON line: {error}", where=where, fix="write an id in quotes on each line") from error
    if isinstance(value, dict):
        value = value.get("_id", value.get("id"))
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise DataError("no id on this line", where=where, fix='write "ID" or {"id": "ID"}')
    return str(value)
