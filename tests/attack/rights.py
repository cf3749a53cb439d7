"""A folder in which nothing may be written, also for root, whom permissions do not stop: that right is put away."""

import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

_VERSION_3 = 0x20080522  # of Linux's capset: two groups of 32 capabilities
_OVERRIDES_PERMISSIONS = 1 << 1  # CAP_DAC_OVERRIDE
_LIBC = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def without_right_to_write(folder: Path) -> Iterator[None]:
    """Neither `folder` nor anything in it can be changed by this thread, and by those it starts."""
    places = [folder, *folder.rglob("*")]
    modes = {path: path.stat().st_mode for path in places if not path.is_symlink()}
    for path, mode in modes.items():
        path.chmod(mode & ~0o222)
    before = _capabilities()
    _set_capabilities([before[0] & ~_OVERRIDES_PERMISSIONS, *before[1:]])
    try:
        assert not os.access(folder, os.W_OK, effective_ids=True)
        yield
    finally:
        _set_capabilities(before)
        for path, mode in modes.items():
            path.chmod(mode)


def _capabilities() -> list[int]:
    """effective, permitted, inheritable; and again for the upper 32."""
    header, values = (ctypes.c_uint32 * 2)(_VERSION_3, 0), (ctypes.c_uint32 * 6)()
    assert _LIBC.capget(header, values) == 0
    return list(values)


def _set_capabilities(values: list[int]) -> None:
    header = (ctypes.c_uint32 * 2)(_VERSION_3, 0)
    assert _LIBC.capset(header, (ctypes.c_uint32 * 6)(*values)) == 0, os.strerror(ctypes.get_errno())
