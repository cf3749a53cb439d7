"""Memory that was freed is used again, instead of going back to the operating system and coming anew.

glibc returns large blocks as soon as they are free, and gets pages full of zeros for the next one. A training step on
a CPU takes and frees the same hundreds of megabytes again and again: in the demo that was more than half of its time.
The price is a fifth more memory, which lies between blocks.
"""

import ctypes

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD, ARENA_MAX = -1, -2, -3, -8  # numbers of glibc's malloc.h
KEPT_AT_THE_TOP, GROWS_BY, LARGEST_ON_THE_HEAP = 2**31 - 1, 64 << 20, 1 << 30
ARENAS = 1  # what one thread has freed serves another; an arena of a thread's own holds no large blocks


def keep_freed_memory() -> None:
    """For this process, from now on; where the C library is another, nothing."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(TRIM_THRESHOLD, KEPT_AT_THE_TOP)
        mallopt(TOP_PAD, GROWS_BY)
        mallopt(MMAP_THRESHOLD, LARGEST_ON_THE_HEAP)
        mallopt(ARENA_MAX, ARENAS)
