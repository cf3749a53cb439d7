"""Runs `mcontriever ...` in a process forked from one that has imported torch, which takes seconds of a core.

python -m tests.warm_commands      reads a JSON request a line: {arguments, cwd, stdout, stderr}; prints its exit code
"""

import importlib
import json
import os
import select
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

IMPORTED = (
    "mcontriever.cli",
    "mcontriever.encoder.encoder",
    "mcontriever.retrieval.embedding.embedding_run",
    "transformers.models.xlm_roberta.modeling_xlm_roberta",
    "transformers.models.xlm_roberta.tokenization_xlm_roberta",
)
REPOSITORY = Path(__file__).resolve().parents[1]


class WarmCommands:
    """The test's side: starts the server with the first command."""

    def __init__(self, timeout_seconds: float) -> None:
        self.timeout_seconds = timeout_seconds
        self._server: subprocess.Popen[str] | None = None

    def run(self, arguments: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
        with tempfile.TemporaryDirectory() as folder:
            outputs = [Path(folder, name) for name in ("stdout", "stderr")]
            request = {"arguments": arguments, "cwd": str(cwd), "outputs": [str(path) for path in outputs]}
            code = self._ask(json.dumps(request))
            return subprocess.CompletedProcess(
                ["mcontriever", *arguments], code, *(path.read_text() for path in outputs)
            )

    def _ask(self, request: str) -> int:
        if self._server is None:
            command = [sys.executable, "-m", "tests.warm_commands"]
            pipe = subprocess.PIPE
            self._server = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=REPOSITORY)
        server = self._server
        assert server.stdin is not None
        assert server.stdout is not None
        print(request, file=server.stdin, flush=True)
        ready, _, _ = select.select([server.stdout], [], [], self.timeout_seconds)
        answer = server.stdout.readline() if ready else ""
        assert answer, f"no answer in {self.timeout_seconds} s to {request}"
        return int(answer)

    def close(self) -> None:
        if self._server is not None:
            with self._server as server:
                assert server.stdin is not None
                server.stdin.close()


def serve() -> None:
    for name in IMPORTED:
        importlib.import_module(name)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            run_command(json.loads(line))
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def run_command(request: dict[str, Any]) -> None:
    """As `mcontriever` does, up to the end of the process."""
    for descriptor, name in enumerate((os.devnull, *request["outputs"])):
        opened = os.open(name, os.O_RDWR | os.O_CREAT)
        os.dup2(opened, descriptor)
        os.close(opened)
    os.chdir(request["cwd"])
    sys.argv = ["mcontriever", *request["arguments"]]
    from mcontriever.cli import main

    main()


if __name__ == "__main__":
    serve()
