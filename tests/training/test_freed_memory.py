"""freed_memory.py: large blocks are taken from what was freed, in the main thread and in others."""

import platform
import subprocess
import sys

import pytest

FRESH_PAGES = """
import resource, sys, threading
import torch
from mcontriever.training.freed_memory import keep_freed_memory

def fresh_pages(rounds):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        torch.ones(20_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

torch.set_num_threads(1)
if sys.argv[1] == "keep":
    keep_freed_memory()
fresh_pages(30)
print(fresh_pages(10))
threads = [threading.Thread(target=lambda: (fresh_pages(30), print(fresh_pages(10)))) for _ in range(2)]
for thread in threads:
    thread.start()
    thread.join()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator is told anything")
def test_large_blocks_are_used_again() -> None:
    pages_of_ten = 10 * 80_000_000 // 4096
    found = {}
    for mode in ("keep", "leave"):
        command = [sys.executable, "-c", FRESH_PAGES, mode]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        found[mode] = [int(line) for line in output.split()]
    assert max(found["keep"]) < pages_of_ten / 100
    assert min(found["leave"]) > pages_of_ten / 2
