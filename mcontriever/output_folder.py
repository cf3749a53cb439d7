"""Which folders a verb may write into: one that is new, empty or its own; a user's other files are never replaced.

TOKENIZER = FolderKind("tokenizer", marks=("tokenizer.json",), files=("tokenizer.json", "*.model", ...))
TOKENIZER.require_own("runs/tokens")                              before adding to a folder
TOKENIZER.require_replaceable("runs/tokens", overwrite=False)     before replacing one
"""

import fnmatch
import os
import re
from dataclasses import dataclass
from pathlib import Path

from mcontriever.disk import RECORD_OF_UPLOAD, TEMPORARY_PREFIX
from mcontriever.drops import shown
from mcontriever.errors import ConfigError, StoreError

LOCKS = ".lock*"
COPY_FIRST = "copy it to this machine first, for example: aws s3 sync {url} FOLDER; then give FOLDER"
URL = re.compile(r"([a-z][a-z0-9+.-]+):/+(?=.)")


@dataclass(frozen=True)
class FolderKind:
    """`marks` are patterns of files or folders that tell this kind; `files` are patterns of all that it may hold."""

    name: str
    marks: tuple[str, ...]
    files: tuple[str, ...] = ("*",)

    def require_own(self, folder: str | Path) -> None:
        """For verbs that add to a folder, or resume in it."""
        require_local(folder, "give a local folder; embed and prepare copy theirs with --upload URL")
        names = names_in(Path(folder))
        if names and not _matching(names, self.marks):
            raise StoreError(
                f"the folder is not empty and is not a {self.name}: it holds {shown(names)}",
                where=folder,
                fix="give a new or an empty folder",
            )

    def require_replaceable(self, folder: str | Path, *, overwrite: bool) -> None:
        """For verbs that replace a whole folder: one of this kind only with `overwrite`, one with other files never."""
        self.require_own(folder)
        strangers = [file for file in _files_in(Path(folder)) if not _matching([file], self.files)]
        if strangers:
            raise StoreError(
                f"the folder holds files that do not belong to a {self.name}: {shown(strangers)}",
                where=folder,
                fix="give a new or an empty folder, or move these files away",
            )
        if not overwrite and names_in(Path(folder)):
            raise StoreError(
                f"there is a {self.name} here already",
                where=folder,
                fix="give another folder, or replace this one: --overwrite (in Python: overwrite=True)",
            )


def require_local(folder: str | Path, fix: str) -> None:
    """A URL, which a path writes with one slash, is not taken for a folder; {url} in `fix` becomes it."""
    if found := URL.match(str(folder)):
        url = f"{found[1]}://{str(folder)[found.end() :]}"
        raise ConfigError("this is a URL, and a folder is needed", where=url, fix=fix.format(url=url))


def names_in(folder: Path) -> list[str]:
    """What the folder holds, without locks and what a killed writer left; nothing if there is no folder."""
    if folder.is_dir():
        return sorted(name for name in os.listdir(folder) if not is_passing(name))
    if os.path.lexists(folder):
        raise StoreError("this is a file, but the output is a folder", where=folder, fix="give the path of a folder")
    return []


def _files_in(folder: Path) -> list[str]:
    """All files below the folder, by their relative paths, and links and empty folders too."""
    found = []
    for place, folders, files in os.walk(folder):
        names = [*files, *(name for name in folders if os.path.islink(os.path.join(place, name)))]
        if not names and not folders and Path(place) != folder:
            names = [""]
        found += [str(Path(place, name).relative_to(folder)) for name in names if not is_passing(name)]
    return sorted(found)


def is_passing(name: str) -> bool:
    return name.startswith(TEMPORARY_PREFIX) or fnmatch.fnmatchcase(name, LOCKS) or name == RECORD_OF_UPLOAD


def _matching(names: list[str], patterns: tuple[str, ...]) -> list[str]:
    def fits(name: str, pattern: str) -> bool:  # for fnmatch alone, * would match a / too
        return name.count("/") == pattern.count("/") and fnmatch.fnmatchcase(name, pattern)

    return [name for name in names if any(fits(name, pattern) for pattern in patterns)]
