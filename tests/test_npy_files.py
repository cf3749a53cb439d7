"""npy_files.py: any damage is one error, and threads may open files at once."""

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mcontriever.errors import StoreError
from mcontriever.npy_files import mapped, read_array, read_header

WAYS: list[Callable[..., Any]] = [mapped, read_array, read_header]


@pytest.mark.parametrize("read", WAYS)
def test_threads_may_read_at_once(tmp_path: Path, read: Callable[[Path], Any]) -> None:
    """Python 3.11's parser fails now and then in two threads at once, and often with quick turns."""
    path = tmp_path / "a.npy"
    np.save(path, np.arange(6).reshape(2, 3))
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(read, [path] * 400))
    finally:
        sys.setswitchinterval(before)
    assert all(str(value) == str(read(path)) for value in found)


@pytest.mark.parametrize("read", WAYS)
@pytest.mark.parametrize(
    "data",
    [b"", b"PK\x03\x04", b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", None],
    ids=["empty", "npz", "cut header", "missing"],
)
def test_what_is_no_array_is_one_error(tmp_path: Path, read: Callable[..., Any], data: bytes | None) -> None:
    path = tmp_path / "a.npy"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(StoreError, match=r"cannot be read: [\s\S]*where: .*a\.npy[\s\S]*fix: make it again"):
        read(path, fix="make it again")


@pytest.mark.parametrize("read", [mapped, read_array])
def test_pickled_values_are_never_loaded(tmp_path: Path, read: Callable[[Path], Any]) -> None:
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(StoreError, match="cannot be read"):
        read(tmp_path / "a.npy")
