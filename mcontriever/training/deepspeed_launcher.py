"""DeepSpeed's launcher: found, and started after a check of what it would stop at with a traceback of its own.

It reads its hostfile before any of our code runs, so a bare `deepspeed --hostfile FILE mcontriever/train.py` shows its
own message. `mcontriever train --hostfile FILE` and the plans of `mcontriever run` come through here.
"""

import argparse
import os
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from mcontriever.child_processes import run_command
from mcontriever.errors import ConfigError

ONE_PROCESS = "install it, or train in one process: without --hostfile, in a plan with --set launcher=[]"
_NAMES = ("deepspeed", "ds")  # of its launcher; --hostfile and -H of another one may mean something else
_DEFAULT = Path("/job/hostfile")  # the launcher reads it where no hostfile is given
_ENTRY = re.compile(r"(\S+)\s+slots=(0*[1-9]\d*)")
_FORM = "HOST slots=N, N at least 1"


def launch(hostfile: str | Path, arguments: Sequence[str], *, port: int | None = None) -> int:
    """`mcontriever/train.py` on these machines; the exit code."""
    meet = ["--master_port", str(port)] if port else []
    launcher = found_launcher(["deepspeed", "--hostfile", str(hostfile), *meet])
    return run_command([*launcher, str(Path(__file__).parents[1] / "train.py"), *arguments])


def found_launcher(words: Sequence[str]) -> list[str]:
    """With the program's full path, also if it is next to our Python and not on the PATH."""
    if not words:
        return []
    places = [os.environ.get("PATH", os.defpath), str(Path(sys.executable).parent)]
    program = shutil.which(words[0], path=os.pathsep.join(places))
    if program is None:
        raise ConfigError(f"the launcher {words[0]} is not found", fix=ONE_PROCESS)
    if Path(program).name in _NAMES:
        given = _hostfile_of(words[1:])
        if given is not None or _DEFAULT.is_file():
            check_hostfile(given or _DEFAULT)
    return [program, *words[1:]]


def _hostfile_of(options: Sequence[str]) -> Path | None:
    """As DeepSpeed's own parser reads it: `--hostfile FILE`, `--hostfile=FILE`, `-H FILE` or `-HFILE`."""
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    parser.add_argument("-H", "--hostfile", type=Path)
    try:
        return parser.parse_known_args(options)[0].hostfile
    except argparse.ArgumentError as error:
        raise ConfigError("--hostfile without a file", where="the launcher", fix="--hostfile FILE") from error


def check_hostfile(path: Path) -> int:
    """How many processes it asks for.

    DeepSpeed's launcher stops if a host is in two lines, if a line has another form, or if there is none.
    """
    if not path.is_file():
        raise ConfigError("no such hostfile", where=path, fix="check the path")
    first_line, slots = dict[str, int](), 0
    for number, line in _entries(path):
        entry = _ENTRY.match(line)
        if entry is None:
            raise ConfigError(f"line {number} is {line!r}", where=path, fix=f"write each line as {_FORM}")
        host = entry[1]
        if host in first_line:
            what = f"the host {host} is in line {first_line[host]} and again in line {number}"
            raise ConfigError(what, where=path, fix=f"keep one of them, with all slots: {host} slots=N")
        first_line[host] = number
        slots += int(entry[2])
    if not first_line:
        raise ConfigError("the hostfile names no host", where=path, fix=f"write a line for each: {_FORM}")
    return slots


def _entries(path: Path) -> Iterator[tuple[int, str]]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the hostfile cannot be read: {error}", where=path, fix=f"write lines of {_FORM}") from error
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip() and not line.strip().startswith("#"):
            yield number, line.strip()
