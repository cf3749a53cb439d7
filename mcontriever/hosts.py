"""Hosts: can one be reached, tested quickly, before a library retries for a minute; does a hostfile name one twice?"""

import socket
import threading
import urllib.parse
from collections.abc import Sequence
from pathlib import Path

from mcontriever.errors import ConfigError, HubError

CONNECT_SECONDS = 1.5
_HUB_HOSTS = {"hf": "huggingface.co"}


def require_host(url_or_host: str, offline_way: str) -> None:
    """Fail within two seconds when a host cannot be reached, and say what to do without it."""
    try:
        parsed = urllib.parse.urlsplit(url_or_host if "://" in url_or_host else f"https://{url_or_host}")
        host = _HUB_HOSTS.get(parsed.scheme, parsed.hostname or "")
        port = parsed.port or (80 if parsed.scheme == "http" else 443)
    except ValueError as error:
        raise HubError(f"not an address: {error}", where=url_or_host, fix="check the address") from error
    if not host:
        raise HubError("the address names no host", where=url_or_host, fix="write it as https://host/path")
    problem = _connection_problem(host, port)
    if problem:
        raise HubError(f"{host} cannot be reached: {problem}", where=url_or_host, fix=offline_way)


def _connection_problem(host: str, port: int) -> str | None:
    """Try in a separate thread, because looking up a name has no timeout."""
    outcome: list[str | None] = []

    def connect() -> None:
        try:
            socket.create_connection((host, port), timeout=CONNECT_SECONDS).close()
            outcome.append(None)
        except OSError as error:
            outcome.append(str(error))

    attempt = threading.Thread(target=connect, daemon=True)
    attempt.start()
    attempt.join(CONNECT_SECONDS)
    return outcome[0] if outcome else f"no answer in {CONNECT_SECONDS} s"


def check_hostfile(launcher: Sequence[str]) -> None:
    """DeepSpeed's launcher stops with a traceback if its hostfile names a host in two lines."""
    for option in ("--hostfile", "-H"):
        if option not in launcher[:-1]:
            continue
        path, first_line = Path(launcher[list(launcher).index(option) + 1]), dict[str, int]()
        if not path.is_file():
            raise ConfigError("no such hostfile", where=path, fix="check the path in launcher")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            host = line.split("#")[0].split()[:1]
            if host and host[0] in first_line:
                fix = f"keep one of them, with all slots: {host[0]} slots=N"
                what = f"the host {host[0]} is in line {first_line[host[0]]} and again in line {number}"
                raise ConfigError(what, where=path, fix=fix)
            first_line |= dict.fromkeys(host, number)
