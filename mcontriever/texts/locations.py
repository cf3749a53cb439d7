"""Where files are: local paths and URLs, patterns with {language} and wildcards, sizes, all through fsspec."""

import glob
import itertools
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, cast

from mcontriever.errors import ConfigError, DataError, HubError
from mcontriever.hosts import require_host

BUFFER_BYTES = 1 << 20
PACKED_SUFFIXES = (".gz", ".xz", ".zst")


def expand_paths(patterns: Sequence[str], **values: Sequence[str]) -> list[tuple[str, dict[str, str]]]:
    """Expand {language}-like fields by their values, then wildcards; each path comes with the values it took.

    Paths keep the order of the patterns and are sorted within one. A pattern that matches nothing is a DataError.
    """
    found: dict[str, dict[str, str]] = {}
    for pattern in patterns:
        names = [name for name in re.findall(r"\{(\w+)\}", pattern) if name in values]
        for choice in itertools.product(*(values[name] for name in names)):
            chosen = dict(zip(names, choice, strict=True))
            path = pattern
            for name, value in chosen.items():
                path = path.replace(f"{{{name}}}", value)
            matches = _matches(path)
            if not matches:
                raise DataError("no file matches", where=path, fix="check the path, and the languages it is used with")
            for match in matches:
                found.setdefault(match, chosen)
    return list(found.items())


def is_remote(path: str) -> bool:
    return "://" in path and not path.startswith("file://")


def local_path(path: str) -> Path:
    return Path(path.removeprefix("file://"))


def open_raw(path: str) -> IO[bytes]:
    """The stored bytes of a path or URL."""
    if not is_remote(path):
        return open(path.removeprefix("file://"), "rb", buffering=BUFFER_BYTES)
    file_system, name = file_system_of(path)
    return cast(IO[bytes], file_system.open(name, "rb", block_size=BUFFER_BYTES * 8))


def file_state(path: str) -> list[Any]:
    """[path, size, time]: equal states mean equal content, without reading it. A remote file may have only a tag."""
    if not is_remote(path):
        try:
            found = os.stat(local_path(path))
        except FileNotFoundError as error:
            raise no_such_file(path) from error
        return [path, found.st_size, found.st_mtime_ns]
    file_system, name = file_system_of(path)
    info = _info(file_system, name, path)
    return [path, info.get("size"), str(info.get("ETag") or info.get("LastModified") or info.get("mtime"))]


def file_bytes(path: str) -> int | None:
    """The size of a file, None where the server does not say. A missing file is a DataError."""
    if is_remote(path):
        file_system, name = file_system_of(path)
        return cast(int | None, _info(file_system, name, path).get("size"))
    if not os.path.lexists(local_path(path)):
        raise no_such_file(path)
    return local_path(path).stat().st_size if local_path(path).is_file() else None


def plain_suffix(path: str) -> str:
    """The suffix that says what a file holds: ".jsonl" of a.jsonl.gz."""
    stem, suffix = os.path.splitext(path)
    return os.path.splitext(stem)[1] if suffix in PACKED_SUFFIXES else suffix


def no_such_file(path: object) -> DataError:
    return DataError("no such file", where=path, fix="check the path")


def _matches(path: str) -> list[str]:
    if not any(mark in path for mark in "*?["):
        return [path]
    if not is_remote(path):
        return sorted(glob.glob(path.removeprefix("file://"), recursive=True))
    file_system, pattern = file_system_of(path)
    return sorted(str(file_system.unstrip_protocol(match)) for match in file_system.glob(pattern))


def file_system_of(path: str) -> tuple[Any, str]:
    """What reads and writes this URL, and its name there; a host that is out of reach is a HubError at once."""
    import fsspec

    scheme = path.split("://", 1)[0]
    if scheme in ("http", "https", "hf"):
        require_host(path, "download the file and give its local path")
    try:
        return cast(tuple[Any, str], fsspec.core.url_to_fs(path))
    except (ImportError, ValueError) as error:
        extra = "pip install 'mcontriever[s3]'" if scheme == "s3" else f"install what fsspec needs for {scheme}://"
        raise ConfigError(
            f"{scheme}:// cannot be used here: {error}", where=path, fix=f"{extra}, or give local paths"
        ) from error


def _info(file_system: Any, name: str, path: str) -> dict[str, Any]:
    try:
        return cast(dict[str, Any], file_system.info(name))
    except FileNotFoundError as error:
        raise no_such_file(path) from error
    except OSError as error:
        raise HubError(f"the server does not answer: {error}", where=path, fix="run the same command again") from error
