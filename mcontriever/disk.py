"""Writing so that a crash never leaves half a file: temporary name, fsync, rename; checksums; folder locks."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import orjson

from mcontriever.errors import StoreError, UserError

TEMPORARY_PREFIX = ".partial-"
RECORD_OF_UPLOAD = ".uploaded.json"  # written beside the folder's writer, under a lock of its own
PROBE_BYTES = 1 << 20
EDGE_BYTES = 4096
LOCK = ".lock"


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is fsynced and renamed to `path`, else removed."""
    path = Path(path)
    _make_folder(path.parent)
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{path.name}")
    with disk_errors_named(path):
        try:
            yield temporary
            sync_file(temporary)
            os.replace(temporary, path)
            sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; on success all in it is fsynced and it takes `path`'s place."""
    path = Path(path)
    _make_folder(path.parent)
    with contextlib.ExitStack() as afterwards, disk_errors_named(path):  # a full disk is asked before it is emptied
        temporary = Path(tempfile.mkdtemp(prefix=f"{TEMPORARY_PREFIX}{path.name}-", dir=path.parent))
        afterwards.callback(shutil.rmtree, temporary, ignore_errors=True)
        temporary.chmod(0o755)
        yield temporary
        for written in sorted(temporary.rglob("*")):
            if written.is_dir():
                sync_folder(written)
            elif written.is_file():
                sync_file(written)
        sync_folder(temporary)
        _replace_folder(temporary, path)


@contextlib.contextmanager
def disk_errors_named(path: str | Path) -> Iterator[None]:
    """Turn what a disk refuses (no space, no permission, ...) into a StoreError with advice."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        refusal = getattr(error, "errno", None)
        if refusal is None:  # libraries report a full disk by errors of their own, numpy by one without a number
            refusal = _refusal(next(folder for folder in Path(path).absolute().parents if folder.is_dir()))
        if refusal in _DISK_ADVICE:
            what, fix = _DISK_ADVICE[refusal]
            raise StoreError(what, where=path, fix=fix) from error
        raise


def remove_temporaries(folder: str | Path) -> None:
    """Remove what a killed writer left in `folder`. Only safe while holding the folder's lock."""
    for leftover in set(Path(folder).glob(f"{TEMPORARY_PREFIX}*")) - set(records_of_upload(folder)):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def records_of_upload(folder: str | Path) -> list[Path]:
    """Temporaries that belong to the holder of the upload's lock."""
    return list(Path(folder).glob(f"{TEMPORARY_PREFIX}*-{RECORD_OF_UPLOAD}"))


def write_bytes(path: str | Path, data: bytes) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: str | Path, value: Any) -> None:
    text = json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False)
    write_bytes(path, (text + "\n").encode())


def read_json(path: str | Path) -> Any:
    """Parse one of our JSON files; a missing or damaged one is a StoreError."""
    try:
        return orjson.loads(Path(path).read_bytes())
    except FileNotFoundError as error:
        raise StoreError(f"no file {Path(path).name}", where=path, fix="check the folder's path") from error
    except OSError as error:  # a folder of this name, no right to read, a broken disk
        reason = os.strerror(error.errno or 0)
        raise StoreError(f"cannot be read: {reason}", where=path, fix="restore the file from a copy") from error
    except orjson.JSONDecodeError as error:
        fix = "restore the file from a copy, or make the folder again"
        raise StoreError(f"not valid JSON: {error}", where=path, fix=fix) from error


def is_plain_name(name: str) -> bool:
    """Whether a name in a manifest stays in its folder: the one check for all paths in our files."""
    return bool(name) and name not in (".", "..") and not any(character in "/\\\0" for character in name)


def edges_checksum(path: str | Path) -> str:
    """Of the first and the last block: quick enough for every opening, and it detects most damage and swapped files."""
    with open(path, "rb") as file:
        digest = hashlib.sha256(file.read(EDGE_BYTES))
        file.seek(max(file.seek(0, os.SEEK_END) - EDGE_BYTES, 0))
        digest.update(file.read(EDGE_BYTES))
    return digest.hexdigest()


def sha256_of(path: str | Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_bytes(folder: str | Path) -> int:
    return sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())


def _refusal(folder: Path) -> int | None:
    """Why a megabyte cannot be written here; None if it can."""
    try:
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            file.write(bytes(PROBE_BYTES))
            file.write(b"\0")  # after a partial write, the next one says why
    except OSError as error:
        return error.errno
    return None


class FolderLock:
    """One writer per folder. The lock is the operating system's, so it is gone when its holder dies.

    `shared` admits others that share it and refuses those that do not; `wait` waits instead of refusing.
    """

    def __init__(self, folder: str | Path, *, name: str = LOCK, shared: bool = False, wait: bool = False) -> None:
        self.folder = Path(folder)
        self.name, self.shared, self.wait = name, shared, wait
        self._handle: int | None = None
        self._is_new = False

    def __enter__(self) -> "FolderLock":
        self._is_new = not self.folder.exists()
        _make_folder(self.folder)
        lock_file = self.folder / self.name
        with disk_errors_named(lock_file):
            handle = os.open(lock_file, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, (fcntl.LOCK_SH if self.shared else fcntl.LOCK_EX) | (0 if self.wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            holder = os.read(handle, 64).decode(errors="replace").strip() or "unknown"
            os.close(handle)
            raise StoreError(
                f"another process (pid {holder}) is writing here",
                where=self.folder,
                fix="wait for it to end, or give another output folder",
            ) from error
        with contextlib.suppress(OSError):  # a full disk has no space to record who holds the lock
            os.ftruncate(handle, 0)
            os.write(handle, str(os.getpid()).encode())
        self._handle = handle
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._handle is not None
        if kind is not None and self._is_new and not self.shared and not self.wait:
            self._leave_nothing()
        os.close(self._handle)
        self._handle = None

    def _leave_nothing(self) -> None:
        """What failed before it wrote anything leaves no empty folder behind."""
        locks = list(self.folder.iterdir())
        if all(path.name.startswith(LOCK) for path in locks):
            with contextlib.suppress(OSError):
                for path in locks:
                    path.unlink()
                self.folder.rmdir()


def _make_folder(folder: Path) -> None:
    with disk_errors_named(folder):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileNotFoundError as error:
            raise StoreError("no folder can be made here", where=folder, fix="choose another path") from error


def _replace_folder(temporary: Path, path: Path) -> None:
    """Swap a finished folder in. A folder cannot replace a full one, so the old one is moved away first."""
    if path.exists():
        aside = Path(tempfile.mkdtemp(prefix=f"{TEMPORARY_PREFIX}old-", dir=path.parent))
        os.replace(path, aside / path.name)
        os.replace(temporary, path)
        shutil.rmtree(aside, ignore_errors=True)
    else:
        os.replace(temporary, path)
    sync_folder(path.parent)


def sync_file(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


_DISK_ADVICE = {
    errno.ENOSPC: ("no space left on the device", "free some space, then run the same command again"),
    errno.EDQUOT: ("the disk quota is used up", "free some space, then run the same command again"),
    errno.EFBIG: (
        "the file would be larger than may be written here",
        "raise the limit (ulimit -f), then run it again",
    ),
    errno.EACCES: ("no permission to write", "choose another folder, or change its permissions"),
    errno.EPERM: ("no permission to write", "choose another folder, or change its permissions"),
    errno.EROFS: ("the file system is read-only", "choose another folder"),
    errno.ENOTDIR: ("this is a file, but a folder is needed", "choose another folder"),
    errno.EEXIST: ("this is a file, but a folder is needed", "choose another folder"),
    errno.EISDIR: ("this is a folder, but a file is needed", "choose another path"),
}
