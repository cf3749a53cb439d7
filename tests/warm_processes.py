"""Processes forked from one that has imported what most commands need, which alone takes seconds of a core.

The server is multiprocessing's; it ends with the tests. It starts with the first process, or is a fork of one that has
imported everything already.
"""

import multiprocessing
import os
import resource
import socket
import subprocess
import sys
import tempfile
from multiprocessing import connection, forkserver
from pathlib import Path
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.warm_imports"])


def fork_the_server(unneeded: connection.Connection, prints: Path) -> None:
    """Python offers no way to do so; from 3.14 on the server wants a key, and starts the usual way."""
    server: Any = forkserver._forkserver
    if sys.version_info >= (3, 14) or server._forkserver_pid is not None:
        return
    address = connection.arbitrary_address("AF_UNIX")  # type: ignore[attr-defined]
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        alive, held = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(held)
            unneeded.close()
            write_to([str(prints)] * 2)
            try:
                forkserver.main(listener.fileno(), alive, [])
            finally:
                os._exit(0)
        os.close(alive)
    server._forkserver_address, server._forkserver_alive_fd, server._forkserver_pid = address, held, pid


def run_warm(
    words: list[str], cwd: Path, environment: dict[str, str], timeout_seconds: float, largest_file: int | None = None
) -> subprocess.CompletedProcess[str]:
    """`mcontriever WORDS` or `python -c PROGRAM`.

    Variables of the environment are set after all imports, and no file may grow beyond `largest_file`.
    """
    with tempfile.TemporaryDirectory() as folder:
        outputs = [str(Path(folder, name)) for name in ("stdout", "stderr")]
        process = CONTEXT.Process(target=_run, args=(words, str(cwd), environment, largest_file, outputs))
        process.start()
        process.join(timeout_seconds)
        if process.exitcode is None:
            process.kill()
            process.join()
        printed = [Path(output).read_text() for output in outputs]
        return subprocess.CompletedProcess(words, process.exitcode or 0, *printed)


def _run(words: list[str], cwd: str, environment: dict[str, str], largest_file: int | None, outputs: list[str]) -> None:
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    os.chdir(cwd)
    os.environ.update(environment)
    if words[:2] == ["python", "-c"]:
        write_to(outputs)
        exec(words[2], {"__name__": "__main__"})
    else:
        run_command(words, outputs)


def run_command(words: list[str], outputs: list[str]) -> None:
    """`mcontriever WORDS` in this process, which ends with its exit code."""
    write_to(outputs)
    sys.argv = ["mcontriever", *words]
    from mcontriever.cli import main

    main()


def write_to(outputs: list[str]) -> None:
    """From now on this process reads nothing and writes to these files."""
    for descriptor, name in enumerate((os.devnull, *outputs)):
        opened = os.open(name, os.O_RDWR | os.O_CREAT)
        os.dup2(opened, descriptor)
        os.close(opened)
