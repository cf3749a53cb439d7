"""`mcontriever serve` as a process with two workers: strangers' connections, a killed worker, the end."""

import contextlib
import http.client
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from tests.conftest import REPOSITORY, RunCli

pytestmark = pytest.mark.long(15)

SECONDS = 120
TOKEN = "let-me-in"


class Server:
    def __init__(self, *arguments: object, **environment: str) -> None:
        command = [sys.executable, "-m", "mcontriever", "serve", *map(str, arguments), "--port", "0"]
        self.process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY, env={**os.environ, **environment}
        )
        assert self.process.stderr is not None
        self.said: list[str] = []
        for line in self.process.stderr:
            self.said.append(line)
            if "http://" in line:
                break
        assert self.said, "the server said nothing"
        assert "http://" in self.said[-1], self.said
        self.port = int(self.said[-1].split("127.0.0.1:")[1].split()[0])

    def workers(self) -> list[int]:
        """Beside them there is only a tracker of resources."""
        children = psutil.Process(self.process.pid).children()
        return [one.pid for one in children if one.status() != psutil.STATUS_ZOMBIE and len(one.threads()) > 1]

    def get(self, path: str, token: str = TOKEN) -> tuple[int, str]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", headers={"Authorization": f"Bearer {token}"}
        )
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def raw(self, data: bytes = b"") -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=SECONDS)
        connection.sendall(data)
        return connection


@pytest.fixture(scope="module")
def server(store_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    token = tmp_path_factory.mktemp("token") / "token.txt"
    token.write_text(f"{TOKEN}\n")
    server = Server(store_folder, "--workers", 2, "--token-file", token, "--arrival-seconds", 2)
    yield server
    server.process.send_signal(signal.SIGTERM)
    _, rest = server.process.communicate(timeout=SECONDS)
    assert server.process.returncode == 0
    assert "stopped" in rest
    assert "Traceback" not in rest
    assert not psutil.pid_exists(server.process.pid)


def test_it_answers_and_asks_for_its_token(server: Server) -> None:
    status, text = server.get("/search?query=telescope&k=2")
    assert (status, len(json.loads(text)["hits"])) == (200, 2)
    status, text = server.get("/search?query=telescope", token="no")
    assert (status, json.loads(text)["error"]["message"]) == (401, "the token is wrong")


def test_head_and_the_next_request_on_one_connection(server: Server) -> None:
    kept = http.client.HTTPConnection("127.0.0.1", server.port, timeout=SECONDS)
    for method in ("HEAD", "GET", "HEAD", "GET"):
        kept.request(method, "/health")
        answer = kept.getresponse()
        assert (answer.status, int(answer.headers["Content-Length"])) == (200, len(b'{"status":"ok"}'))
        assert answer.read() == (b'{"status":"ok"}' if method == "GET" else b"")
    kept.close()


@pytest.fixture
def many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_strange_connections_take_nothing_from_others(server: Server, many_files: None) -> None:
    head = f"POST /search HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n"
    with contextlib.ExitStack() as connections:
        idle = [connections.enter_context(server.raw()) for _ in range(1000)]
        half_head = connections.enter_context(server.raw(b"GET /search HTTP/1.1\r\nHo"))
        half_body = connections.enter_context(server.raw(f"{head}Content-Length: 20\r\n\r\n".encode() + b'{"query"'))
        whole = f"{head}Content-Length: 14\r\n\r\n".encode() + b'{"query": "x"}'
        half_closed = connections.enter_context(server.raw(whole))
        half_closed.shutdown(socket.SHUT_WR)
        server.raw(whole).close()
        unescaped = connections.enter_context(server.raw("GET /search?query=نهر HTTP/1.1\r\nHost: x\r\n\r\n".encode()))
        noise = connections.enter_context(server.raw(b"\x16\x03\x01 no http\r\n\r\n"))
        assert server.get("/search?query=telescope")[0] == 200
        assert b'"status":400' in received(noise)
        assert b"curl -G --data-urlencode" in received(unescaped)
        assert b"200 OK" in received(half_closed)
        assert b'"status":408' in received(half_body)
        assert b'"status":408' in received(half_head)
        assert received(idle[-1]).startswith(b"HTTP/1.1 408")
    assert server.get("/search?query=telescope")[0] == 200


def received(connection: socket.socket) -> bytes:
    """Up to the end, or to an answer after which the connection is kept."""
    parts = [b""]
    while b"200 OK" not in parts[-1] and (part := connection.recv(65536)):
        parts.append(part)
    return b"".join(parts)


def test_a_killed_worker_is_replaced_and_loses_only_its_own_requests(server: Server) -> None:
    workers = server.workers()
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGKILL)

    def ask(number: int) -> int:
        try:
            return server.get(f"/search?query=telescope+{number}")[0]
        except OSError:  # the connection of a request that it had
            return 0

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(100)))
    assert set(answers) <= {200, 0}
    assert answers.count(200) >= 90
    until = time.monotonic() + SECONDS
    while len(set(server.workers()) - {workers[0]}) < 2:
        assert time.monotonic() < until
        time.sleep(0.05)
    assert server.get("/search?query=telescope")[0] == 200
    status, metrics = server.get("/metrics")
    assert status == 200
    assert 'mcontriever_requests_total{path="/search",status="200"}' in metrics


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--host", "0.0.0.0"], "--host 0.0.0.0 accepts other machines, but no token is set\n  fix: add --token-file"),
        (["--port", "PORT"], "cannot be used\n  fix: choose another with --port"),
        (["--host", "no.such.host.invalid", "--token-file", "TOKEN"], "is not an address of this machine"),
        (["--token-file", "missing.txt"], "the token cannot be read"),
        (["--model", "missing-folder/x"], "missing-folder/x is neither a folder nor in the local cache"),
        (["--rerank", "TINY"], "the model has no head trained to score pairs"),
        (["STORE"], "two stores are called 'mixed'\n  fix: give it another name: NAME="),
        (["other=nowhere"], "no store here (no manifest.json)\n  where: nowhere"),
    ],
)
def test_what_cannot_be_served_is_one_message(
    arguments: list[str], expected: str, store_folder: Path, tiny_encoder_dir: Path, tmp_path: Path, cli: RunCli
) -> None:
    (tmp_path / "token").write_text("x")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        places = {
            "PORT": taken.getsockname()[1], "TOKEN": tmp_path / "token", "TINY": tiny_encoder_dir, "STORE": store_folder
        }  # fmt: skip
        port = [] if "--port" in arguments else ["--port", 0]
        done = cli("serve", store_folder, *[places.get(word, word) for word in arguments], *port)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") or "\nerror: " in done.stderr
    assert expected in done.stderr
