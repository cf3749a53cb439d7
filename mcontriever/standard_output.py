"""Writing results to standard output: a full disk is a user's error, and an encoding that lacks a letter is none."""

import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator

from mcontriever.errors import StoreError


@contextlib.contextmanager
def writing_results() -> Iterator[None]:
    """Around nothing but writes to stdout, so that every OSError is stdout's."""
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        if error.errno == errno.EPIPE:  # a reader such as `head` has enough
            raise
        raise unwritten(error) from error


def unwritten(error: OSError) -> StoreError:
    """What the user is told where standard output refuses to take more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is still buffered would fail again on exit
    what = f"the results cannot be written: {os.strerror(error.errno or 0)}"
    return StoreError(what, where="standard output", fix="free some space, or write them elsewhere")


def replace_unknown_letters() -> None:
    """Letters that the output's encoding lacks are written as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def can_write_all_letters() -> bool:
    return (sys.stdout.encoding or "ascii").lower().replace("-", "").startswith("utf")
