"""Processes forked from one that has imported what most commands need, which alone takes seconds of a core.

The server is multiprocessing's; it starts with the first process, and ends with the tests.
"""

import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.warm_imports"])


def run_warm(
    words: list[str], cwd: Path, environment: dict[str, str], timeout_seconds: float, largest_file: int | None = None
) -> subprocess.CompletedProcess[str]:
    """`mcontriever WORDS`; variables of the environment are set after all imports, and no file may grow further."""
    with tempfile.TemporaryDirectory() as folder:
        outputs = [str(Path(folder, name)) for name in ("stdout", "stderr")]
        process = CONTEXT.Process(target=_run, args=(words, str(cwd), environment, largest_file, outputs))
        process.start()
        process.join(timeout_seconds)
        if process.exitcode is None:
            process.kill()
            process.join()
        printed = [Path(output).read_text() for output in outputs]
        return subprocess.CompletedProcess(["mcontriever", *words], process.exitcode or 0, *printed)


def _run(words: list[str], cwd: str, environment: dict[str, str], largest_file: int | None, outputs: list[str]) -> None:
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    for descriptor, name in enumerate((os.devnull, *outputs)):
        opened = os.open(name, os.O_RDWR | os.O_CREAT)
        os.dup2(opened, descriptor)
        os.close(opened)
    os.chdir(cwd)
    os.environ.update(environment)
    sys.argv = ["mcontriever", *words]
    from mcontriever.cli import main

    main()
