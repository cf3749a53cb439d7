"""Start `mcontriever ...` as a process forked from this one, which has imported torch once, and end it at any moment.

A start of its own would spend seconds on imports, and most kills would fall into those.
"""

import importlib
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

IMPORTED = (
    "mcontriever.cli",
    "mcontriever.encoder.encoder",
    "mcontriever.mine",
    "mcontriever.retrieval.embedding.embedding_run",
    "mcontriever.retrieval.vector_search.faiss_index",
    "mcontriever.train",
    "transformers.models.xlm_roberta.modeling_xlm_roberta",
)
POLL_SECONDS = 0.01


def import_all() -> None:
    for name in IMPORTED:
        importlib.import_module(name)


class Forked:
    """One command as one or several ranks, each the leader of a process group of its own."""

    def __init__(self, words: Sequence[str], output: Path, ranks: int = 1) -> None:
        self.output = output
        self.codes: dict[int, int] = {}
        places: list[dict[str, str]] = [{}]
        if ranks > 1:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = str(probe.getsockname()[1])
            shared = {"WORLD_SIZE": str(ranks), "LOCAL_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1"}
            places = [
                {**shared, "MASTER_PORT": port, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(ranks)
            ]
        self.pids = [_fork(words, output, place) for place in places]

    def running(self) -> list[int]:
        for pid in self.pids:
            if pid not in self.codes:
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    self.codes[pid] = os.waitstatus_to_exitcode(status)
        return [pid for pid in self.pids if pid not in self.codes]

    def wait(self, seconds: float) -> bool:
        """Whether all have ended by then."""
        deadline = time.monotonic() + seconds
        while self.running():
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_SECONDS)
        return True

    def send(self, number: signal.Signals, pids: Sequence[int]) -> None:
        """SIGKILL goes to a process and all that it has started, as when a machine stops; others to the process."""
        for pid in pids:
            try:
                (os.killpg if number == signal.SIGKILL else os.kill)(pid, number)
            except ProcessLookupError:
                continue


def _fork(words: Sequence[str], output: Path, place: Mapping[str, str]) -> int:
    pid = os.fork()
    if pid:
        return pid
    os.setpgid(0, 0)
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.environ.update(place)
    code = 1
    try:
        from mcontriever.cli import main

        main(list(words))
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:  # shown, and the parent goes on with its own work
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
