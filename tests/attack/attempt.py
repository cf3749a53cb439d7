"""One attempt to break a verb, in this process, and what must be true afterwards."""

import contextlib
import hashlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mcontriever.cli import main

MOST_MEGABYTES = 250  # beyond what the process held before; the first use of a library is part of it
REFUSED = 2
_DIGESTS: dict[tuple[int, ...], str] = {}
_MESSAGE = re.compile(r"^error: .+(\n  .+)*\n  fix: .+", re.MULTILINE)


@dataclass(frozen=True)
class Outcome:
    """How a command ended, what it printed, and by how much memory grew at most."""

    arguments: tuple[str, ...]
    code: int
    out: str
    err: str
    megabytes: float

    def told(self) -> bool:
        """Whether one message says what is wrong, where, and what to do."""
        return (
            self.code == REFUSED
            and self.err.count("error: ") == 1
            and _MESSAGE.search(self.err) is not None
            and "\n  where: " in self.err
            and not self.out
        )

    def explained(self) -> str:
        return f"mcontriever {' '.join(self.arguments)}\nexit code {self.code}\n{self.err}\n{self.out[:500]}"

    def require_told(self) -> None:
        assert self.told(), self.explained()
        self.require_clean()

    def require_clean(self) -> None:
        assert "Traceback" not in self.err + self.out, self.explained()
        assert self.megabytes < MOST_MEGABYTES, f"{self.megabytes:,.0f} MB: {self.explained()}"


def attempt(*arguments: object) -> Outcome:
    """Run `mcontriever ...`. An exception that no handler turns into a message is raised here."""
    words = tuple(str(argument) for argument in arguments)
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with _peak_memory() as megabytes, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(list(words))
        except SystemExit as end:
            code = int(end.code or 0)
    return Outcome(words, code, out.getvalue(), err.getvalue(), megabytes[0])


def content(folder: Path) -> dict[str, str]:
    """What lies in a folder: files by checksum, links and empty folders too."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            found[str(path.relative_to(folder))] = _digest(path)
        else:
            found[str(path.relative_to(folder))] = "a folder or a link"
    return {name: digest for name, digest in found.items() if not Path(name).name.startswith(".lock")}


def _digest(path: Path) -> str:
    """A file with several names, which was written long ago, is read again only if it was changed."""
    state = path.stat()
    key = (state.st_dev, state.st_ino, state.st_mtime_ns, state.st_size)
    if state.st_nlink == 1 or key not in _DIGESTS:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if state.st_nlink == 1:
            return digest
        _DIGESTS[key] = digest
    return _DIGESTS[key]


@contextlib.contextmanager
def _peak_memory() -> Iterator[list[float]]:
    """By how many megabytes the resident memory grew at most (Linux counts it; a write of 5 starts anew)."""
    Path("/proc/self/clear_refs").write_text("5")
    before, grown = _status("VmRSS"), [0.0]
    yield grown
    grown[0] = (_status("VmHWM") - before) / 1000


def _status(name: str) -> int:
    text = Path("/proc/self/status").read_text()
    return int(text.split(f"{name}:")[1].split()[0])
