"""The bytes and lines of a local path or URL, decompressed by its suffix (.gz, .xz, .zst), with damage named."""

import contextlib
import lzma
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator
from typing import IO, Any, cast

from mcontriever.errors import DataError, HubError
from mcontriever.texts.locations import BUFFER_BYTES, is_remote, open_raw

COMPRESSED_CHUNK_BYTES = 1 << 16
MAX_LINE_BYTES = 1 << 26


def read_lines(path: str, max_line_bytes: int = MAX_LINE_BYTES) -> Iterator[tuple[int, bytes]]:
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
    """Like `read_lines`, but a line over the bound becomes None and is never held in memory.

    A byte order mark at the beginning is dropped. A file that breaks off is a DamagedFileError, raised after all of
    its complete lines.
    """
    number, waiting, waiting_bytes = 0, list[bytes](), 0  # waiting: parts of a line that continues in the next block
    try:
        for block in read_blocks(path):
            if not number and not waiting:
                block = block.removeprefix(BOM_UTF8)
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
    """A file that cannot be read to its end: `reason` in one word, and where it broke off."""

    def __init__(self, reason: str, what: str, path: str) -> None:
        super().__init__(what, where=path, fix="restore the file, or omit it")
        self.reason = reason
        self.line = 0
        self.half_line = False


def read_blocks(path: str) -> Iterator[bytes]:
    """Yield the decompressed content in blocks; everything before a damaged place comes before DamagedFileError."""
    new_decoder, decoder_error = _decoder_of(path)
    with damage_named(path, decoder_error), open_raw(path) as raw:
        if new_decoder is None:
            yield from iter(lambda: raw.read(BUFFER_BYTES), b"")
        else:
            yield from _decompressed(raw, new_decoder)


@contextlib.contextmanager
def damage_named(path: str, *decoder_errors: type[Exception]) -> Iterator[None]:
    """Turn every failure to read a file into DamagedFileError, or into HubError where the network failed."""
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
    except decoder_errors as error:
        what = f"the content is damaged: {' '.join(str(error).split())[:200]}"
        raise DamagedFileError("corrupt", what, path) from error
    except OSError as error:
        if is_remote(path):  # the network failed, not the file: nothing may be counted as lost
            raise HubError(f"reading stopped: {error}", where=path, fix="run the same command again") from error
        raise DamagedFileError("unreadable", f"the file cannot be read: {error}", path) from error


def _decoder_of(path: str) -> tuple[Callable[[], Any] | None, type[Exception]]:
    """A factory of decompressors for one gzip member, xz stream or zstd frame, and the error they raise."""
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
    """The members one after another. The libraries' file objects lose the bytes just before a damaged place, and
    zstandard's accepts half a file as complete."""
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
