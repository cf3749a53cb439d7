"""`--prefetch` against a hub of our own on this machine: what it fetches is what `--offline` runs from."""

import hashlib
import http.server
import json
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import mteb
import pytest

from tests.conftest import RunCli
from tests.evaluation.conftest import official_files

TASK = "NanoNFCorpusRetrieval"
SUITE = f"name: small\ndescription: one official task\ntasks: [{{task: {TASK}}}]\n"


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub's interface as a snapshot needs: the list of files, and each file with its hash."""

    files: dict[str, bytes] = {}
    repository = revision = ""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        prefix = f"/datasets/{self.repository}/resolve/{self.revision}/"
        if path.startswith(f"/api/datasets/{self.repository}/"):
            siblings = [{"rfilename": name, "size": len(content)} for name, content in self.files.items()]
            about = {"id": self.repository, "sha": self.revision, "siblings": siblings, "private": False, "tags": []}
            if "/tree/" in path:
                about = [{"type": "file", "path": name, "size": len(c), "oid": hashlib.sha1(c).hexdigest()}
                         for name, c in self.files.items()]  # fmt: skip
            self._answer(json.dumps(about).encode(), "application/json")
        elif path.startswith(prefix) and path.removeprefix(prefix) in self.files:
            self._answer(self.files[path.removeprefix(prefix)], "application/octet-stream")
        else:
            self.send_error(404)

    def _answer(self, content: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", self.revision)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[str]:
    dataset = mteb.get_task(TASK).metadata.dataset
    Hub.files, Hub.repository, Hub.revision = official_files()[TASK], dataset["path"], dataset["revision"]
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def offline_run(run_cli: RunCli, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(*arguments: object, endpoint: str) -> subprocess.CompletedProcess[str]:
        settings = {"HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "home")}
        return run_cli("benchmark", *arguments, **settings)

    return run


def test_what_prefetch_brings_is_what_offline_needs(
    hub: str, tmp_path: Path, offline_run: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    suite, folder = tmp_path / "small.yaml", tmp_path / "data"
    suite.write_text(SUITE)
    fetched = offline_run("--prefetch", folder, "--suite", suite, endpoint=hub)
    assert fetched.returncode == 0, fetched.stderr
    assert "MB" in fetched.stderr
    snapshot = folder / "hub" / f"datasets--{Hub.repository.replace('/', '--')}" / "snapshots" / Hub.revision
    assert {str(path.relative_to(snapshot)) for path in snapshot.rglob("*") if path.is_file()} == set(Hub.files)
    nowhere = f"http://127.0.0.1:{free_port()}"
    arguments = ("--model", "bm25", "--suite", suite, "--offline", folder, "--output", tmp_path / "out")
    done = offline_run(*arguments, endpoint=nowhere)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert {row["task"] for row in rows} == {TASK}
    assert "NanoNFCorpusRetrieval" in done.stdout


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_the_environment_of_the_tests_forbids_the_real_hub() -> None:
    assert os.environ["HF_HUB_OFFLINE"] == "1"
