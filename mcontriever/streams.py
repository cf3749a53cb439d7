"""Reading text from anywhere: local paths and URLs through fsspec, decompressed by their suffix, line by line."""

import contextlib
import glob
import itertools
import lzma
import re
import socket
import threading
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any, cast

from mcontriever.errors import DataError, HubError

BUFFER_BYTES = 1 << 20
COMPRESSED_CHUNK_BYTES = 1 << 16
CONNECT_SECONDS = 1.5

_HUB_HOSTS = {"hf": "huggingface.co"}


@contextlib.contextmanager
def open_bytes(path: str) -> Iterator[IO[bytes]]:
    """Open a path or URL for streaming (`with open_bytes(path) as stream`); .gz, .xz, .zst are decompressed."""
    with open_raw(path) as raw:
        if path.endswith(".gz"):
            from isal import igzip

            with igzip.GzipFile(fileobj=raw, mode="rb") as stream:
                yield cast(IO[bytes], stream)
        elif path.endswith(".xz"):
            with lzma.open(raw) as stream:
                yield cast(IO[bytes], stream)
        elif path.endswith(".zst"):
            import zstandard

            with zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True) as stream:
                yield cast(IO[bytes], stream)
        else:
            yield raw


def read_lines(path: str, max_line_bytes: int = 1 << 26) -> Iterator[tuple[int, bytes]]:
    """Yield (line number from 1, line without its newline). A line over the bound is a DataError."""
    for number, line in scan_lines(path, max_line_bytes):
        if line is None:
            raise DataError(
                f"a line of more than {max_line_bytes:,} bytes",
                where=f"{path}:{number}",
                fix="split the line, or check that the file is line by line",
            )
        yield number, line


def scan_lines(path: str, max_line_bytes: int) -> Iterator[tuple[int, bytes | None]]:
    """Like `read_lines`, but a line over the bound is passed over as None, never held in memory.

    A file that breaks off is a DamagedFileError, after all of its whole lines were given.
    """
    number, waiting, waiting_bytes = 0, list[bytes](), 0  # waiting: parts of the line that the last block did not end
    try:
        for block in read_blocks(path):
            *ended, rest = block.split(b"\n")
            if ended:
                waiting_bytes += len(ended[0])
                yield number + 1, None if waiting_bytes > max_line_bytes else b"".join([*waiting, ended[0]])
                waiting.clear()
                waiting_bytes = 0
                others: list[Any] = ended[1:]
                if len(block) > max_line_bytes:  # else none of them can be too long
                    others = [line if len(line) <= max_line_bytes else None for line in others]
                yield from enumerate(others, start=number + 2)
                number += len(ended)
            waiting_bytes += len(rest)
            if waiting_bytes > max_line_bytes:
                waiting.clear()
            elif rest:
                waiting.append(rest)
    except DamagedFileError as damage:
        damage.line, damage.half_line = number + 1, waiting_bytes > 0
        raise
    if waiting_bytes:
        yield number + 1, None if waiting_bytes > max_line_bytes else b"".join(waiting)


class DamagedFileError(DataError):
    """A file that cannot be read, or not to its end: `reason` in one word, and where it broke off."""

    def __init__(self, reason: str, what: str, path: str) -> None:
        super().__init__(what, where=path, fix="restore the file, or leave it out")
        self.reason = reason
        self.line = 0
        self.half_line = False


def read_blocks(path: str) -> Iterator[bytes]:
    """Yield the decompressed content in blocks. All that stands before a damage is given before DamagedFileError."""
    new_decoder, decoder_error = _decoder_of(path)
    with damage_named(path, decoder_error), open_raw(path) as raw:
        if new_decoder is None:
            yield from iter(lambda: raw.read(BUFFER_BYTES), b"")
        else:
            yield from _decompressed(raw, new_decoder)


@contextlib.contextmanager
def damage_named(path: str, decoder_error: type[Exception]) -> Iterator[None]:
    """Turn what can go wrong in reading a file into DamagedFileError, or HubError where the network failed."""
    try:
        yield
    except FileNotFoundError as error:
        raise DamagedFileError("missing", "no such file", path) from error
    except IsADirectoryError as error:
        raise DamagedFileError("directory", "a folder where a file is expected", path) from error
    except PermissionError as error:
        raise DamagedFileError("permission", "no permission to read the file", path) from error
    except EOFError as error:
        raise DamagedFileError("truncated", "the compressed data ends before its end mark", path) from error
    except decoder_error as error:
        what = f"the content is damaged: {' '.join(str(error).split())[:200]}"
        raise DamagedFileError("corrupt", what, path) from error
    except OSError as error:
        if is_remote(path):  # the network's fault, not the file's: nothing may be counted as lost for it
            raise HubError(f"reading broke off: {error}", where=path, fix="run the same command again") from error
        raise DamagedFileError("unreadable", f"the file cannot be read: {error}", path) from error


def _decoder_of(path: str) -> tuple[Callable[[], Any] | None, type[Exception]]:
    """What makes a decompressor of one gzip member, xz stream or zstd frame, and the error it raises."""
    if path.endswith(".gz"):
        from isal import isal_zlib

        return lambda: isal_zlib.decompressobj(wbits=31), cast(type[Exception], isal_zlib.error)
    if path.endswith(".xz"):
        return lzma.LZMADecompressor, lzma.LZMAError
    if path.endswith(".zst"):
        import zstandard

        return lambda: zstandard.ZstdDecompressor().decompressobj(), zstandard.ZstdError
    return None, EOFError


def _decompressed(raw: IO[bytes], new_decoder: Callable[[], Any]) -> Iterator[bytes]:
    """Members one after the other. The libraries' own file objects lose what stands just before a damage, and
    zstandard's takes half a file for a whole one."""
    decoder: Any = None
    while chunk := raw.read(COMPRESSED_CHUNK_BYTES):
        while chunk:
            if decoder is None:
                decoder = new_decoder()
            yield decoder.decompress(chunk)
            chunk = b""
            if decoder.eof:
                chunk, decoder = decoder.unused_data.lstrip(b"\0"), None  # zeros may pad the space between members
    if decoder is not None:
        raise EOFError


def expand_paths(patterns: Sequence[str], **values: Sequence[str]) -> list[tuple[str, dict[str, str]]]:
    """Expand {language}-like fields by their values, then wildcards; each path comes with the values it took.

    The order is the patterns' and, within one, sorted. A pattern that matches nothing is a DataError.
    """
    found: dict[str, dict[str, str]] = {}
    for pattern in patterns:
        names = [name for name in re.findall(r"\{(\w+)\}", pattern) if name in values]
        for choice in itertools.product(*(values[name] for name in names)):
            chosen = dict(zip(names, choice, strict=True))
            path = pattern
            for name, value in chosen.items():
                path = path.replace(f"{{{name}}}", value)
            matches = _matches(path)
            if not matches:
                raise DataError("no file matches", where=path, fix="check the path and the languages of the recipe")
            for match in matches:
                found.setdefault(match, chosen)
    return list(found.items())


def require_host(url_or_host: str, offline_way: str) -> None:
    """Fail within two seconds when a host cannot be reached, naming what to do without it."""
    parsed = urllib.parse.urlsplit(url_or_host if "://" in url_or_host else f"https://{url_or_host}")
    host = _HUB_HOSTS.get(parsed.scheme, parsed.hostname or "")
    port = parsed.port or (80 if parsed.scheme == "http" else 443)
    problem = _connection_problem(host, port)
    if problem:
        raise HubError(f"{host} cannot be reached: {problem}", where=url_or_host, fix=offline_way)


def is_remote(path: str) -> bool:
    return "://" in path and not path.startswith("file://")


def _connection_problem(host: str, port: int) -> str | None:
    """Try in a thread of its own: looking up a name has no timeout."""
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


def open_raw(path: str) -> IO[bytes]:
    if not is_remote(path):
        return open(path.removeprefix("file://"), "rb", buffering=BUFFER_BYTES)
    import fsspec

    scheme = path.split("://", 1)[0]
    if scheme in ("http", "https", "hf"):
        require_host(path, "download the file and give its local path")
    file: Any = fsspec.open(path, "rb", block_size=BUFFER_BYTES * 8).open()
    return cast(IO[bytes], file)


def _matches(path: str) -> list[str]:
    if not any(mark in path for mark in "*?["):
        return [path]
    if not is_remote(path):
        return sorted(glob.glob(path.removeprefix("file://"), recursive=True))
    import fsspec

    scheme = path.split("://", 1)[0]
    if scheme in ("http", "https", "hf"):
        require_host(path, "download the files and give their local paths")
    file_system, pattern = fsspec.core.url_to_fs(path)
    return sorted(str(file_system.unstrip_protocol(match)) for match in file_system.glob(pattern))
