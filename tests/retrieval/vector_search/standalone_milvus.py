"""A standalone server of Milvus, from the package `milvus`, which ends with the process that started it.

The package's own start allows one server on a machine (its etcd has fixed ports), does not see that a server has died,
and gives up connections within the server after 0.2 s, so that on a busy machine it never comes up.
"""

import contextlib
import ctypes
import http.client
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mcontriever.child_processes import PR_SET_PDEATHSIG

START_SECONDS = 200  # with a fiftieth of a core it takes 70
STARTS = 3
PORTS = range(20_000, 32_000)  # below those that connections to elsewhere get
SETTINGS = {
    "grpc.client.dialTimeout": 60_000,  # milliseconds
    "common.session.ttl": 600,  # seconds
    "dataCoord.segment.assignmentExpiration": 200,  # milliseconds, for which a flush waits
    "rootCoord.dmlChannelNum": 2,
    "quotaAndLimits.enabled": "false",
    "log.level": "error",
}
ETCD = """
name: default
listen-client-urls: http://127.0.0.1:{client}
advertise-client-urls: http://127.0.0.1:{client}
listen-peer-urls: http://127.0.0.1:{peer}
initial-advertise-peer-urls: http://127.0.0.1:{peer}
initial-cluster: default=http://127.0.0.1:{peer}
heartbeat-interval: 1000
election-timeout: 50000
unsafe-no-fsync: true
"""
_LIBC = ctypes.CDLL(None)


@contextlib.contextmanager
def standalone_milvus(folder: Path) -> Iterator[str]:
    """The address of one that answers. The folder, of 400 MB, is removed."""
    import milvus

    milvus._initialize_data_files(str(folder))  # a compressed program and its libraries
    try:
        for number in range(STARTS):
            data = folder / f"data-{number}"
            ports = _free_ports()
            with _started(milvus, folder / "bin", data, ports) as process:
                try:
                    if _answers(process, ports["health"]):
                        yield f"http://127.0.0.1:{ports['proxy_port']}"
                        return
                finally:
                    process.kill()
        raise AssertionError(f"Milvus did not start {STARTS} times: {(data / 'log').read_text()[-3000:]}")
    finally:
        shutil.rmtree(folder)


def _free_ports() -> dict[str, int]:
    names = ["proxy_port", "proxy_internal_port", "etcd_port", "peer", "health"]
    names += [f"{part}_{kind}_port" for part in ("query", "index", "data") for kind in ("coord", "node")]
    candidates = iter(random.sample(PORTS, len(PORTS)))
    return {name: next(filter(_is_free, candidates)) for name in [*names, "root_coord_port"]}


def _is_free(port: int) -> bool:
    with socket.socket() as tried:
        try:
            tried.bind(("", port))
        except OSError:
            return False
    return True


def _started(milvus: Any, program: Path, data: Path, ports: dict[str, int]) -> subprocess.Popen[bytes]:
    config = milvus.MilvusServerConfig(data_dir=str(data), **ports)
    for key, value in SETTINGS.items():
        config.set(key, value)
    config.resolve()  # which writes it
    etcd = data / "etcd.yaml"
    etcd.write_text(ETCD.format(client=ports["etcd_port"], peer=ports["peer"]))
    environment = {
        "DEPLOY_MODE": "STANDALONE",
        "ETCD_CONFIG_PATH": str(etcd),
        "METRICS_PORT": str(ports["health"]),
        "LD_LIBRARY_PATH": str(program),
    }
    with (data / "log").open("wb") as log:
        return subprocess.Popen(
            [program / "milvus", "run", "standalone"],
            cwd=data,
            env={**os.environ, **environment},
            stdout=log,
            stderr=log,
            preexec_fn=lambda: _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL),
        )


def _answers(process: subprocess.Popen[bytes], port: int) -> bool:
    until = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < until:
        time.sleep(0.1)
        with contextlib.suppress(OSError), contextlib.closing(http.client.HTTPConnection("127.0.0.1", port)) as asked:
            asked.request("GET", "/healthz")
            if asked.getresponse().read().strip() == b"OK":
                return True
    return False
