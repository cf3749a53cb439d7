"""Where what is derived from a data file is kept: beside the file, or in the user's cache where that can't be."""

import hashlib
import os
from pathlib import Path

END_BYTES = 1 << 16


def cache_folder(path: Path, cache: str | Path | None = None) -> Path:
    """`cache` if given, else the file's own folder if it can be written, else one of its own in the user's cache."""
    if cache is not None:
        return Path(cache)
    beside = path.resolve().parent
    if os.access(beside, os.W_OK):
        return beside
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "mcontriever" / hashlib.sha256(str(beside).encode()).hexdigest()[:16]


def file_state(path: Path) -> str:
    """Size, time and the bytes at both ends: cheap to take of a file of any size, and different when it changes."""
    status = path.stat()
    with open(path, "rb") as file:
        head = file.read(END_BYTES)
        file.seek(max(0, status.st_size - END_BYTES))
        tail = file.read(END_BYTES)
    return f"{status.st_size} {status.st_mtime_ns} {hashlib.sha256(head + tail).hexdigest()}"
