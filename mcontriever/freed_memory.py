"""Memory that training frees is kept for its next step, by a setting of the C library."""

import ctypes

# Numbers of glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -2, -3, -8
_KEPT_AT_THE_TOP, _GROWS_BY, _LARGEST_ON_THE_HEAP = 2**31 - 1, 64 << 20, 1 << 30
_ARENAS = 1  # what one thread has freed serves another; an arena of a thread's own holds no large blocks


def keep_freed_memory() -> None:
    """From now on this process reuses the memory it freed instead of returning it. Other C libraries: no effect.

    glibc returns large blocks as soon as they are free, and gets pages full of zeros for the next one. A training step
    on a CPU frees and takes the same hundreds of megabytes again and again: in the demo that was more than half of its
    time. The price is a fifth more memory.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, _KEPT_AT_THE_TOP)
        mallopt(_TOP_PAD, _GROWS_BY)
        mallopt(_MMAP_THRESHOLD, _LARGEST_ON_THE_HEAP)
        mallopt(_ARENA_MAX, _ARENAS)
