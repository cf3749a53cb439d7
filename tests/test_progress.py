"""progress.py: plain lines on stderr away from a terminal, silence when asked, never a byte on stdout."""

import subprocess
import sys

SCRIPT = """
import sys
from mcontriever import progress
progress.setup_logging("info", quiet="quiet" in sys.argv)
progress.PLAIN_LINE_SECONDS = 0.0
with progress.track(4, "reading", "documents") as bar:
    for _ in range(4):
        bar.advance(1, share="sw 50 %")
progress.log.info("a word")
progress.log.warning("a warning")
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True, check=True)


def test_lines_on_stderr_only() -> None:
    done = run()
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert lines[1].startswith("reading: 2 of 4 documents (50 %), ")
    assert "share sw 50 %" in lines[1]
    assert lines[-2:] == ["a word", "a warning"]


def test_quiet_keeps_warnings() -> None:
    assert run("quiet").stderr.splitlines() == ["a warning"]
