"""The tests. None takes the power away, so none waits for the disk, on which one file of them waited for minutes.

`test_disk.py` checks that what is written is synced, and when.
"""

import os


def _does_not_wait(handle: object) -> None:
    pass


os.fsync = _does_not_wait
