"""`--prefetch` against a hub of our own on this machine: what it fetches is what `--offline` runs from."""

import hashlib
import http.server
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import mteb
import pytest

from tests.conftest import COMMAND_SECONDS, REPOSITORY
from tests.evaluation.conftest import official_files

TASK = "NanoNFCorpusRetrieval"
MODEL = "someone/tiny-model"
SUITE = f"name: small\ndescription: one official task\ntasks: [{{task: {TASK}}}]\n"


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub's interface as a snapshot needs: the list of files, and each file with its hash."""

    repositories: dict[str, tuple[str, dict[str, bytes]]] = {}  # "datasets/org/name" -> revision, files

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].removeprefix("/")
        for repository, (revision, files) in self.repositories.items():
            prefix = f"{repository.removeprefix('models/')}/resolve/{revision}/"
            if path.startswith(f"api/{repository}/tree/"):
                tree = [{"type": "file", "path": name, "size": len(c), "oid": "0" * 40} for name, c in files.items()]
                return self._answer(json.dumps(tree).encode(), revision)
            if path == f"api/{repository}" or path.startswith(f"api/{repository}/revision/"):
                siblings = [{"rfilename": name, "size": len(content)} for name, content in files.items()]
                about = {"id": repository.partition("/")[2], "sha": revision, "siblings": siblings, "tags": []}
                return self._answer(json.dumps(about).encode(), revision)
            if path.startswith(prefix) and path.removeprefix(prefix) in files:
                return self._answer(files[path.removeprefix(prefix)], revision)
        return self.send_error(404)

    def _answer(self, content: bytes, revision: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", revision)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def hub(tiny_encoder_dir: Path) -> Iterator[str]:
    dataset = mteb.get_task(TASK).metadata.dataset
    model = {str(f.relative_to(tiny_encoder_dir)): f.read_bytes() for f in tiny_encoder_dir.rglob("*") if f.is_file()}
    Hub.repositories = {
        f"datasets/{dataset['path']}": (dataset["revision"], official_files()[TASK]),
        f"models/{MODEL}": ("a" * 40, model),
    }
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


# As in a fresh process, what reads the hub's variables is imported after they are set; the slow rest is there already.
RUN_ALL = """
import json, os, sys
import matplotlib.pyplot, pandas, pyarrow, scipy.stats, sklearn.metrics, torch._dynamo, torch.distributed.tensor
from tests.warm_processes import run_command
for environment, words, outputs in json.load(sys.stdin):
    taken = {"huggingface_hub", "datasets", "transformers", "mteb", "mcontriever"} & sys.modules.keys()
    assert not taken, taken
    child = os.fork()
    if child == 0:
        os.environ.update(environment)
        run_command(words, outputs)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def benchmarks(folder: Path, *runs: tuple[str, list[object]]) -> list[subprocess.CompletedProcess[str]]:
    """`mcontriever benchmark`, with each hub and its words, one after the other."""
    given = []
    for number, (endpoint, words) in enumerate(runs):
        settings = {"HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": "0", "HF_HOME": str(folder / "home")}
        outputs = [str(folder / f"{number}-{name}.txt") for name in ("stdout", "stderr")]
        given.append((settings, ["benchmark", *map(str, words)], outputs))
    done = subprocess.run(
        [sys.executable, "-c", RUN_ALL],
        input=json.dumps(given),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    codes = [int(code) for code in done.stdout.split()]
    return [
        subprocess.CompletedProcess(words, code, *(Path(output).read_text() for output in outputs))
        for code, (_, words, outputs) in zip(codes, given, strict=True)
    ]


@pytest.mark.long(19)
def test_what_prefetch_brings_is_what_offline_needs(hub: str, tmp_path: Path) -> None:
    suite, folder = tmp_path / "small.yaml", tmp_path / "data"
    suite.write_text(SUITE)
    fetching = ["--prefetch", folder, "--suite", suite, "--model", "bm25", MODEL]
    running = ["--model", "bm25", MODEL, "--suite", suite, "--offline", folder, "--output", tmp_path / "out"]
    nowhere = f"http://127.0.0.1:{free_port()}"
    fetched, done = benchmarks(tmp_path, (hub, fetching), (nowhere, running))
    assert fetched.returncode == 0, fetched.stderr
    for repository, (revision, files) in Hub.repositories.items():
        snapshot = folder / "hub" / repository.replace("/", "--") / "snapshots" / revision
        assert {str(path.relative_to(snapshot)) for path in snapshot.rglob("*") if path.is_file()} == set(files)
        assert (
            f"{repository.partition('/')[2]} ({repository.partition('s/')[0]}, revision {revision[:12]})"
            in fetched.stderr
        )
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert {(row["model"], row["task"]) for row in rows} == {("bm25", TASK), (MODEL, TASK)}
    assert TASK in done.stdout


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_the_environment_of_the_tests_forbids_the_real_hub() -> None:
    assert os.environ["HF_HUB_OFFLINE"] == "1"
