"""Files whose sha256 is known are checked when they are opened: small ones at once, large ones in the background."""

import threading
from collections.abc import Mapping
from pathlib import Path

from mcontriever.disk import sha256_of
from mcontriever.progress import log

CHECKED_AT_ONCE_BYTES = 64 << 20
DAMAGED = "is not the file that was written (checksum)"


def first_damaged(files: Mapping[Path, str], advice: str) -> Path | None:
    """A file that has another checksum. Large ones are read in the background, which logs an error with `advice`."""
    large = {path: digest for path, digest in files.items() if path.stat().st_size > CHECKED_AT_ONCE_BYTES}
    if large:
        threading.Thread(target=_check, args=(large, advice), daemon=True).start()
    small = (path for path in files if path not in large)
    return next((path for path in small if sha256_of(path) != files[path]), None)


def _check(files: Mapping[Path, str], advice: str) -> None:
    for path, digest in files.items():
        if sha256_of(path) != digest:
            log.error(f"{path} {DAMAGED}, and results are wrong: {advice}")
