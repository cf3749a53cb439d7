"""A copy of an output folder in an object store: s3://, or any other URL that fsspec writes.

    mcontriever embed CORPUS --output STORE --upload s3://bucket/store

Object stores neither rename nor lock, and readers map files, so a folder is made on a local disk, and its files are put
up whole: those of a shard when the shard is done, and manifests last, so a complete copy is whole. Started again, a
command puts up what is missing; on a machine without the folder it fetches the copy and goes on from there.
"""

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from mcontriever.disk import (
    RECORD_OF_UPLOAD,
    FolderLock,
    atomic_path,
    is_plain_name,
    read_json,
    records_of_upload,
    write_json,
)
from mcontriever.drops import shown
from mcontriever.errors import ConfigError, HubError, StoreError, UserError
from mcontriever.output_folder import is_passing, names_in
from mcontriever.progress import log
from mcontriever.texts.locations import file_system_of, is_remote

MANIFEST = "manifest.json"
MARKS = (MANIFEST, "pending.json")  # of a copy that can be gone on from
DERIVED = "indexes/"  # has checksums of its own, so a reader knows files of two times apart
SHORTEST_WAIT_SECONDS = 0.2
LOCK = ".lock-upload"


@contextlib.contextmanager
def uploading(folder: Path, url: str | None, *, while_made: bool) -> Iterator[None]:
    """Make the copy at `url` equal to `folder` once the block ends well; `while_made`: and shard by shard before."""
    if url is None:
        yield
        return
    if not is_remote(url):
        raise ConfigError(f"--upload {url} is no URL", fix="for example --upload s3://bucket/folder")
    with FolderLock(folder, name=LOCK):
        copy = UploadedCopy(folder, url.rstrip("/"))
        copy.fetch()
        with copy.put_up_meanwhile() if while_made else contextlib.nullcontext():
            yield
        copy.put_up(complete=True)
        copy.remove_what_is_gone()
        log.info(f"{copy.url}: a copy of {folder}, {len(copy.there):,} files; {copy.new:,} were put up now")


class UploadedCopy:
    """`there` is what the URL holds (bytes by name); `known` is what this folder put there: [bytes, time], or None."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url
        self.files, self.root = file_system_of(url)
        self.new = 0
        self.is_given_up = False
        for leftover in records_of_upload(folder):
            leftover.unlink(missing_ok=True)
        record = read_json(folder / RECORD_OF_UPLOAD) if (folder / RECORD_OF_UPLOAD).exists() else {}
        is_same = record.get("url") == url
        self.known: dict[str, list[int] | None] = record["files"] if is_same else {}
        self.is_fetching: bool = is_same and record["is_fetching"]
        with self._failures_told():
            self.files.invalidate_cache()
            found = self.files.find(self.root, detail=True)
        inside = self.root.rstrip("/") + "/"
        sizes = {path.removeprefix(inside): int(facts["size"]) for path, facts in found.items()}
        self.unfinished = [name for name in sizes if is_passing(Path(name).name)]  # of a disk, by a run that was killed
        self.there = {name: size for name, size in sizes.items() if name not in self.unfinished}

    def fetch(self) -> None:
        """Bring what is there into a new folder. What another folder put there is neither replaced nor removed."""
        strangers = sorted(self.there.keys() - self.known.keys())
        if not strangers and not self.is_fetching:
            return
        if names_in(self.folder) and not self.is_fetching:
            raise StoreError(
                f"there are files that {self.folder} did not put there: {shown(strangers)}",
                where=self.url,
                fix="give another --upload, or a new --output, which goes on from what is there",
            )
        bad = [name for name in self.there if not all(map(is_plain_name, name.split("/")))]
        if bad or not any(mark in self.there for mark in MARKS):
            what = f"names that cannot be files: {shown(bad)}" if bad else "files, but no manifest.json of a folder"
            raise StoreError(f"there are {what}", where=self.url, fix="give another --upload, or empty this one")
        log.info(f"fetching {len(self.there):,} files from {self.url}")
        self.is_fetching = True
        self._remember()
        for name in _in_order(self.there):
            target = self.folder / name
            if not target.is_file() or target.stat().st_size != self.there[name]:
                with atomic_path(target) as temporary, self._failures_told():
                    self.files.get_file(f"{self.root}/{name}", str(temporary))
            self.known[name] = _state(target)
        self.is_fetching = False
        self._remember()

    @contextlib.contextmanager
    def put_up_meanwhile(self) -> Iterator[None]:
        """In a thread. Its failures are told, but stop nothing: at the end all is tried again."""
        ended = threading.Event()

        def work() -> None:
            is_told, wait = False, SHORTEST_WAIT_SECONDS
            while not ended.wait(wait):
                before = time.monotonic()
                try:
                    self.put_up(complete=False)
                except UserError as error:
                    log.log(10 if is_told else 30, f"shards wait to be put up: {error}")
                    is_told = True
                wait = max(SHORTEST_WAIT_SECONDS, 10 * (time.monotonic() - before))  # looking takes a tenth at most

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            yield
        except BaseException:
            self.is_given_up = True  # nobody waits for a large file after Ctrl-C, and nothing follows it
            ended.set()
            raise
        ended.set()
        thread.join()

    def put_up(self, *, complete: bool) -> None:
        """What is new or has changed; of a folder that is being made, its finished shards."""
        marks = self._names(complete, json=True)  # listed first, so that the files they name are among the others
        names = _in_order({*self._names(complete, json=False), *marks})
        for name in names:
            if self.is_given_up:
                return
            state = _state(self.folder / name)
            if state is None or (self.known.get(name) == state and self.there.get(name) == state[0]):
                continue
            if name in self.there and not name.startswith(DERIVED) and not name.endswith(".json"):
                self._remove(MANIFEST)  # which names what is now replaced
            self.known[name] = None  # before it is there, so that it is never taken for another's
            self._remember()
            if self._put(name):
                self.known[name] = state
                self._remember()
                self.new += 1

    def _put(self, name: str) -> bool:
        """False if the file was removed meanwhile, because its run is complete."""
        with self._failures_told():
            try:
                self._put_whole(name)
            except FileNotFoundError:  # a bucket that does not exist is told in this way, too
                if (self.folder / name).exists():
                    raise
                return False
            self.there[name] = int(self.files.info(f"{self.root}/{name}")["size"])
        return True

    def _put_whole(self, name: str) -> None:
        """Object stores show a file once it is whole. A disk, mounted from afar or not, needs a rename for that."""
        source, target = self.folder / name, f"{self.root}/{name}"
        if not isinstance(self.files, LocalFileSystem):
            self.files.put_file(str(source), target)
            return
        with atomic_path(target) as temporary:
            shutil.copyfile(source, temporary)

    def remove_what_is_gone(self) -> None:
        for name in self.unfinished:
            self._remove_there(name)
        for name in sorted(self.known.keys() - self._names(True, json=True) - self._names(True, json=False)):
            self._remove(name)
            del self.known[name]
        self._remember()

    def _remove(self, name: str) -> None:
        if self.there.pop(name, None) is not None:
            self._remove_there(name)

    def _remove_there(self, name: str) -> None:
        with self._failures_told():
            self.files.rm_file(f"{self.root}/{name}")

    def _names(self, complete: bool, *, json: bool) -> set[str]:
        found = set()
        for place, folders, files in os.walk(self.folder):
            folders[:] = [name for name in folders if complete and not is_passing(name)]
            found |= {str(Path(place, name).relative_to(self.folder)) for name in files if not is_passing(name)}
        return {name for name in found if name.endswith(".json") == json and (complete or name != MANIFEST)}

    def _remember(self) -> None:
        if self.is_given_up:  # another may hold the lock by now
            return
        record = {"url": self.url, "is_fetching": self.is_fetching, "files": self.known}
        write_json(self.folder / RECORD_OF_UPLOAD, record)

    @contextlib.contextmanager
    def _failures_told(self) -> Iterator[None]:
        try:
            yield
        except UserError:
            raise
        except Exception as error:  # each kind of store has errors of its own
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            fix = "check the address and the credentials, then run the same command again: what is there is kept"
            raise HubError(f"the copy cannot be read or written: {reason}", where=self.url, fix=fix) from error


def _in_order(names: Any) -> list[str]:
    """Manifests after what they name, and the folder's own last."""
    return sorted(names, key=lambda name: (name == MANIFEST, name.endswith(".json"), name))


def _state(path: Path) -> list[int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:  # the run is complete, and has removed what it does not need
        return None
    return [found.st_size, found.st_mtime_ns]
