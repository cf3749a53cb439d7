"""Can a host be reached? Tested quickly, before a library retries for a minute."""

import socket
import threading
import urllib.parse

from mcontriever.errors import HubError

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
