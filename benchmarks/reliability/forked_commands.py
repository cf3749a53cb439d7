"""Start `mcontriever ...` as a process forked from one that has imported what commands need, and end it at any moment.

A start of its own would spend seconds on imports, and most kills would fall into those. The process that is forked
has done nothing but import, so it holds no thread and no lock of a command before.
"""

import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path

POLL_SECONDS = 0.005
ENDING = (signal.SIGTERM, signal.SIGINT)
HERE = str(Path(__file__).parent)
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (HERE, os.environ.get("PYTHONPATH"))))  # for the server
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["forked_imports"])


class Forked:
    """One command as one or several ranks, each the leader of a process group of its own."""

    def __init__(self, words: Sequence[str], output: Path, ranks: int = 1) -> None:
        self.output = output
        places: list[dict[str, str]] = [{}]
        if ranks > 1:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = str(probe.getsockname()[1])
            shared = {"WORLD_SIZE": str(ranks), "LOCAL_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1"}
            places = [
                {**shared, "MASTER_PORT": port, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(ranks)
            ]
        self.processes = [CONTEXT.Process(target=_run, args=(list(words), str(output), place)) for place in places]
        for process in self.processes:
            process.start()

    def running(self) -> list[ForkServerProcess]:
        return [process for process in self.processes if process.is_alive()]

    def codes(self) -> list[int | None]:
        return [process.exitcode for process in self.processes]

    def printed(self) -> str:
        return self.output.read_text(errors="replace")[-2000:] if self.output.exists() else ""

    def wait(self, seconds: float) -> bool:
        """Whether all have ended by then."""
        deadline = time.monotonic() + seconds
        while self.running():
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_SECONDS)
        return True

    def send(self, number: signal.Signals, processes: Sequence[ForkServerProcess]) -> None:
        """SIGKILL goes to a process and all that it has started, as when a machine stops; others to the process."""
        for process in processes:
            assert process.pid is not None
            try:
                if number == signal.SIGKILL and os.getpgid(process.pid) == process.pid:
                    os.killpg(process.pid, number)
                else:
                    os.kill(process.pid, number)
            except ProcessLookupError:
                continue


def _run(words: list[str], output: str, place: dict[str, str]) -> None:
    os.setpgid(0, 0)
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the soak runs in the background
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.environ.update(place)
    sys.argv = ["mcontriever", *words]
    from mcontriever.cli import main
    from mcontriever.prompt_end import end_promptly

    end_promptly()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
    main(words)
