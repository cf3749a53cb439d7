"""DeepSpeed's launcher: found, and started after a check of what it would stop at with a traceback of its own.

It reads its hostfile before any of our code runs, so a bare `deepspeed --hostfile FILE mcontriever/train.py` shows its
own message. `mcontriever train --hostfile FILE` and the plans of `mcontriever run` come through here.
"""

import os
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from mcontriever.child_processes import run_command
from mcontriever.errors import ConfigError

ONE_PROCESS = "install it, or train in one process: without --hostfile, in a plan with --set launcher=[]"
_ENTRY = re.compile(r"(\S+)\s+slots=\d+")
_FORM = "HOST slots=N"


def launch(hostfile: str | Path, arguments: Sequence[str]) -> int:
    """`mcontriever/train.py` on these machines; the exit code."""
    launcher = found_launcher(["deepspeed", "--hostfile", str(hostfile)])
    return run_command([*launcher, str(Path(__file__).parents[1] / "train.py"), *arguments])


def found_launcher(words: Sequence[str]) -> list[str]:
    """With the program's full path, also if it is next to our Python and not on the PATH."""
    if not words:
        return []
    places = [os.environ.get("PATH", os.defpath), str(Path(sys.executable).parent)]
    program = shutil.which(words[0], path=os.pathsep.join(places))
    if program is None:
        raise ConfigError(f"the launcher {words[0]} is not found", fix=ONE_PROCESS)
    for option in ("--hostfile", "-H"):
        if option in words[:-1]:
            check_hostfile(Path(words[list(words).index(option) + 1]))
    return [program, *words[1:]]


def check_hostfile(path: Path) -> None:
    """DeepSpeed's launcher stops if a host is in two lines, if a line has another form, or if there is none."""
    if not path.is_file():
        raise ConfigError("no such hostfile", where=path, fix="check the path")
    first_line = dict[str, int]()
    for number, line in _entries(path):
        entry = _ENTRY.match(line)
        if entry is None:
            raise ConfigError(f"line {number} is {line!r}", where=path, fix=f"write each line as {_FORM}")
        host = entry[1]
        if host in first_line:
            what = f"the host {host} is in line {first_line[host]} and again in line {number}"
            raise ConfigError(what, where=path, fix=f"keep one of them, with all slots: {host} slots=N")
        first_line[host] = number
    if not first_line:
        raise ConfigError("the hostfile names no host", where=path, fix=f"write a line for each: {_FORM}")


def _entries(path: Path) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if line.strip() and not line.strip().startswith("#"):
            yield number, line.strip()
