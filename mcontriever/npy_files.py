"""Reading .npy files. All of them are opened here, because numpy parses their headers with Python's parser.

In Python 3.11 that parser fails in two threads at once, so one file is opened at a time.
"""

import mmap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mcontriever.errors import StoreError

Header = tuple[tuple[int, ...], bool, np.dtype[Any]]
RESTORE = "restore the file from a copy, or make its folder again"

header_parser = threading.Lock()  # hold it where a library opens such files itself


def mapped(path: Path, *, mode: Literal["r", "c"] = "r", fix: str = RESTORE) -> np.ndarray:
    """A memory-mapped array as a plain one: small slices of numpy's memmap class are many times slower."""
    with _opening(path, fix):
        array = np.lib.format.open_memmap(path, mode=mode)
        promised, there = array.offset + array.nbytes, path.stat().st_size
        if promised != there:  # a header of another length, which still can be parsed, shifts all numbers
            raise ValueError(f"its header promises {promised:,} bytes, it has {there:,}")
        return array.view(np.ndarray)


def was_cut(array: np.ndarray) -> bool:
    """Whether the file of a mapped array became shorter since: to read its end would end the process (SIGBUS)."""
    base: Any = array
    while not isinstance(base, mmap.mmap):
        base = base.base
    return base.size() < len(base)


def read_array(path: Path, *, fix: str = RESTORE) -> np.ndarray:
    """In memory; through a map, which is refused where the header promises more than the file holds."""
    return mapped(path, fix=fix).copy()


def read_header(path: Path, *, fix: str = RESTORE) -> Header:
    """Shape, whether in Fortran order, and type."""
    with _opening(path, fix), open(path, "rb") as file:
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        header: Header = read(file)
        return header


@contextmanager
def _opening(path: Path, fix: str) -> Iterator[None]:
    with header_parser:
        try:
            yield
        except Exception as error:  # a header is parsed as Python, so a damaged one can raise anything
            raise StoreError(f"cannot be read: {error}", where=path, fix=fix) from error
