"""disk.py: nothing half-written, one writer at a time, clear words when the disk says no."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mcontriever.disk import (
    FolderLock,
    atomic_folder,
    atomic_path,
    read_json,
    remove_temporaries,
    sha256_of,
    write_json,
)
from mcontriever.errors import StoreError
from tests.file_size_limit import files_of_at_most


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(UnicodeEncodeError), atomic_path(target) as temporary:
        temporary.write_text("new, half \udc80", encoding="utf-8")
    assert target.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


def test_a_killed_writer_leaves_only_a_temporary_that_can_be_swept(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys\n"
        "from mcontriever.disk import atomic_path\n"
        "with atomic_path(sys.argv[1]) as temporary:\n"
        "    temporary.write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(tmp_path / "a.txt")], check=False)
    assert killed.returncode == -9
    assert not (tmp_path / "a.txt").exists()
    assert len(list(tmp_path.iterdir())) == 1
    remove_temporaries(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What is synced and what is renamed, in this order, by the names of the files."""
    found: list[tuple[str, str]] = []
    replace = os.replace

    def synced(handle: int) -> None:
        found.append(("sync", Path(os.readlink(f"/proc/self/fd/{handle}")).name))

    def renamed(old: Path, new: Path) -> None:
        found.append(("rename", Path(new).name))
        replace(old, new)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    return found


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path: Path, done: list[tuple[str, str]]) -> None:
    with atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("whole")
        written = temporary.name
        assert done == []
    assert done == [("sync", written), ("rename", "a.txt"), ("sync", tmp_path.name)]


def test_so_are_all_files_of_a_folder(tmp_path: Path, done: list[tuple[str, str]]) -> None:
    with atomic_folder(tmp_path / "model") as temporary:
        (temporary / "inner").mkdir()
        for name in ("one", "inner/two"):
            (temporary / name).write_text(name)
        made = temporary.name
    before = done[: done.index(("rename", "model"))]
    assert sorted(before) == sorted(("sync", name) for name in ("one", "two", "inner", made))
    assert done[-1] == ("sync", tmp_path.name)


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "model"
    with atomic_folder(target) as temporary:
        (temporary / "one").write_text("1")
    with pytest.raises(UnicodeEncodeError), atomic_folder(target) as temporary:
        (temporary / "two").write_text("2 \udc80", encoding="utf-8")
    assert [file.name for file in target.iterdir()] == ["one"]
    with atomic_folder(target) as temporary:
        (temporary / "two").write_text("2")
    assert [file.name for file in target.iterdir()] == ["two"]
    assert [file.name for file in tmp_path.iterdir()] == ["model"]


def test_the_second_writer_is_refused_and_told_who_holds_the_folder(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys\nfrom mcontriever.disk import FolderLock\n"
            "with FolderLock(sys.argv[1]):\n    print('held', flush=True)\n    sys.stdin.read()",
            str(tmp_path),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    with holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StoreError, match=f"pid {holder.pid}\\) is writing here"), FolderLock(tmp_path):
            pass
        holder.kill()
    with FolderLock(tmp_path):
        pass


def test_a_file_in_the_way_of_a_folder_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="this is a file, but a folder is needed"):
        write_json(tmp_path / "file" / "inner" / "x.json", {})


def test_damaged_json_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text('{"a": ')
    with pytest.raises(StoreError, match=r"not valid JSON.*\n  where: .*m\.json"):
        read_json(tmp_path / "m.json")


def test_checksum_is_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_of(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


class LibraryError(Exception):
    """As libraries in Rust report a refused write."""


def test_a_refused_write_is_one_message_however_a_library_reports_it(tmp_path: Path) -> None:
    target = tmp_path / "model"

    def as_python(path: Path) -> None:
        path.write_bytes(bytes(10_000))

    def as_numpy(path: Path) -> None:
        np.save(path, np.zeros(10_000))

    def as_rust(path: Path) -> None:
        try:
            path.write_bytes(bytes(10_000))
        except OSError:
            raise LibraryError("write failed") from None

    for write in (as_python, as_numpy, as_rust):
        with (
            pytest.raises(StoreError, match=r"the file would be larger than may be written here\n  where: .*model"),
            files_of_at_most(4096),
            atomic_folder(target) as folder,
        ):
            write(folder / "weights.npy")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(LibraryError), atomic_folder(target):
        raise LibraryError("nothing to do with the disk")
