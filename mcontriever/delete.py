"""Delete documents from a store by their ids: mcontriever delete STORE ID... [--ids-from FILE] [--compact]."""

from collections.abc import Sequence
from pathlib import Path

from mcontriever.amounts import shown_size
from mcontriever.drops import shown
from mcontriever.errors import DataError
from mcontriever.progress import log
from mcontriever.retrieval.store import store_edits, store_runs
from mcontriever.retrieval.store.store_manifest import read_manifest


def run(folder: Path, identifiers: Sequence[str], *, ids_from: Path | None, compact: bool) -> None:
    wanted = [*identifiers, *(_lines_of(ids_from) if ids_from else [])]
    if not wanted and not compact:
        raise DataError("no id was given", fix="name documents' ids, or a file of them with --ids-from")
    with store_runs.writing(folder):
        if wanted:
            deleted, missing = store_edits.delete(folder, wanted)
            log.info(f"deleted {deleted:,} documents")
            if missing:
                log.warning(f"{len(missing):,} ids are not in the store: {shown(missing)}")
        if compact:
            log.info(f"freed {shown_size(store_edits.compact(folder))}")
    log.info(f"{folder}: {read_manifest(folder).described()}")


def _lines_of(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the ids cannot be read: {error}", where=path, fix="give a text file") from error
    return [line.strip() for line in lines if line.strip()]
