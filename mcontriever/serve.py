"""Serve stores over HTTP: a page to look at, and addresses for programs.

mcontriever serve STORE
mcontriever serve wiki=STORE1 news=STORE2 --host 0.0.0.0 --token-file token.txt --workers 4
"""

import contextlib
import functools
import os
import resource
import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcontriever.child_processes import check_count, end_with_parent
from mcontriever.errors import ConfigError
from mcontriever.progress import log, setup_logging
from mcontriever.prompt_end import time_to_save
from mcontriever.serving.limits import LOOPBACK

if TYPE_CHECKING:
    from fastapi import FastAPI

BACKLOG = 2048
WORKER_ANSWER_SECONDS = 10  # a worker that says nothing for so long is replaced


@dataclass(frozen=True, kw_only=True)
class ServeRequest:
    """`stores` by the names that clients use."""

    stores: Mapping[str, Path]
    model: str | None = None
    rerank: str | None = None
    memory_mb: int
    token: str | None = None
    waiting: int
    answer_seconds: float
    arrival_seconds: int
    log_level: int


def run(request: ServeRequest, *, host: str, port: int, workers: int) -> None:
    check_count(workers, "--workers")
    _require_extra()
    import uvicorn

    from mcontriever.serving.patient_protocol import PatientProtocol

    if host not in LOOPBACK and request.token is None:
        fix = "add --token-file FILE (or MCONTRIEVER_TOKEN), or serve --host 127.0.0.1"
        raise ConfigError(f"--host {host} accepts other machines, but no token is set", fix=fix)
    _allow_many_connections()
    with _listening(host, port) as listener, _shared_metrics(workers):
        address = f"http://{'[::1]' if host == '::1' else host}:{listener.getsockname()[1]}"
        app: Any = _app(request)
        if workers > 1:  # by now all is known to be right, and what has to be made beside the stores is made
            app = functools.partial(_app_of_worker, request)
        config = uvicorn.Config(
            app,
            factory=workers > 1,
            workers=workers,
            http=PatientProtocol,
            ws="none",
            backlog=BACKLOG,
            timeout_keep_alive=request.arrival_seconds,
            timeout_graceful_shutdown=int(request.answer_seconds) + 1,
            timeout_worker_healthcheck=WORKER_ANSWER_SECONDS,
            access_log=False,
            log_config=None,
            log_level="warning",
            server_header=False,
        )
        listener.listen(BACKLOG)  # from now on clients wait until a worker takes them
        log.info(f"{', '.join(request.stores)}: {address}    (Ctrl-C stops)")
        _serve(config, listener, workers)
    log.info("stopped")


def _serve(config: Any, listener: socket.socket, workers: int) -> None:
    import uvicorn
    from uvicorn.supervisors import Multiprocess

    try:
        with time_to_save():  # those who wait are still answered
            if workers > 1:
                Multiprocess(config, sockets=[listener]).run()
            else:
                uvicorn.Server(config).run(sockets=[listener])
    except KeyboardInterrupt:  # which uvicorn raises again after its own ending
        return


def _app_of_worker(request: ServeRequest) -> "FastAPI":
    setup_logging()
    log.setLevel(request.log_level)
    end_with_parent()
    return _app(request)


def _app(request: ServeRequest) -> "FastAPI":
    from mcontriever.assembly.served_stores import ServedStores
    from mcontriever.retrieval.rerank import Reranker
    from mcontriever.serving.limits import Limits
    from mcontriever.serving.web_app import make_app

    served = ServedStores(
        request.stores,
        model=request.model,
        reranker=None if request.rerank is None else Reranker.load(request.rerank),
        memory_mb=request.memory_mb,
    )
    limits = Limits(
        waiting=request.waiting, answer_seconds=request.answer_seconds, arrival_seconds=request.arrival_seconds
    )
    return make_app(served, limits=limits, token=request.token)


def named_stores(words: Sequence[str]) -> dict[str, Path]:
    """FOLDER is called by its own name, NAME=FOLDER by the given one."""
    stores: dict[str, Path] = {}
    for word in words:
        name, is_named, folder = word.partition("=")
        if not is_named or "/" in name:
            name, folder = Path(word).resolve().name, word
        if name in stores or not name:
            fix = f"give it another name: NAME={folder}"
            raise ConfigError(f"two stores are called {name!r}" if name else "a store has no name", fix=fix)
        stores[name] = Path(folder)
    return stores


def read_token(file: Path | None) -> str | None:
    """From the file, or from MCONTRIEVER_TOKEN."""
    if file is None:
        return os.environ.get("MCONTRIEVER_TOKEN") or None
    try:
        token = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the token cannot be read: {error}", where=file, fix="give a text file") from error
    if not token:
        raise ConfigError("the token's file is empty", where=file, fix="write a long random word into it")
    return token


@contextlib.contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """Bound before anything is loaded, so that a port in use is known at once."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, OverflowError, UnicodeError) as error:
        raise ConfigError(f"--host {host} is not an address of this machine: {error}", fix="try 127.0.0.1") from error
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError as error:
            fix = f"choose another with --port, or 0 for a free one (here: {os.strerror(error.errno or 0)})"
            raise ConfigError(f"port {port} of {host} cannot be used", fix=fix) from error
        yield listener


def _allow_many_connections() -> None:
    """Up to what the system lets this process have."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@contextlib.contextmanager
def _shared_metrics(workers: int) -> Iterator[None]:
    """Before prometheus_client is imported, which looks at the variable once."""
    from mcontriever.serving.server_metrics import FOLDER

    if workers == 1:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="mcontriever-metrics-") as folder:
        os.environ[FOLDER] = folder
        try:
            yield
        finally:
            del os.environ[FOLDER]


def _require_extra() -> None:
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"the server needs {error.name}", fix="pip install 'mcontriever[serve]'") from error
