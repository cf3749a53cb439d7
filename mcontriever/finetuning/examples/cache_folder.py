"""Where files derived from a data file are kept: beside it, or in the user's cache if its folder is read-only."""

import hashlib
import os
from pathlib import Path

END_BYTES = 1 << 16


def cache_folder(path: Path, cache: str | Path | None = None) -> Path:
    """`cache` if given, else the file's folder if it is writable, else a folder in the user's cache."""
    if cache is not None:
        return Path(cache)
    beside = path.resolve().parent
    if os.access(beside, os.W_OK):
        return beside
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "mcontriever" / hashlib.sha256(str(beside).encode()).hexdigest()[:16]


def file_state(path: Path) -> str:
    """Size, time and the bytes at both ends: cheap for a file of any size, and different if it changes."""
    status = path.stat()
    with open(path, "rb") as file:
        head = file.read(END_BYTES)
        file.seek(max(0, status.st_size - END_BYTES))
        tail = file.read(END_BYTES)
    return f"{status.st_size} {status.st_mtime_ns} {hashlib.sha256(head + tail).hexdigest()}"
