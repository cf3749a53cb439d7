"""The objects of one JSON array of any size, decoded one at a time as its text streams by (DPR's files are arrays)."""

import codecs
import json
from collections.abc import Iterator
from typing import Any

from mcontriever.errors import DataError
from mcontriever.texts.json_lines import checked_object
from mcontriever.texts.streams import read_blocks

CHUNK_BYTES = 1 << 22
MAX_OBJECT_CHARACTERS = 1 << 26


def is_json_array(path: str) -> bool:
    return next(read_blocks(path), b"").lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")


def read_json_array(path: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line on which it begins, object) of every element."""
    text = _JsonText(path)
    text.skip(" \t\r\n[")
    while text.skip(", \t\r\n") not in ("]", ""):
        line = text.line
        yield line, checked_object(text.take(), f"{path}:{line}")
    if text.skip("") == "":
        raise DataError("the JSON array is cut off", where=f"{path}:{text.line}", fix="fetch the file again")


class _JsonText:
    """A window on a stream of JSON: `skip` moves to the next character of interest, `take` decodes the value there."""

    def __init__(self, path: str) -> None:
        self.path, self.line = path, 1
        self.text, self.position, self.ended = "", 0, False
        self._blocks = read_blocks(path)
        self._utf8 = codecs.getincrementaldecoder("utf-8-sig")()
        self._decoder = json.JSONDecoder()

    def skip(self, characters: str) -> str:
        """Skip these characters; returns the first other one, "" at the end."""
        while True:
            while self.position < len(self.text) and self.text[self.position] in characters:
                self.line += self.text[self.position] == "\n"
                self.position += 1
            if self.position < len(self.text) or self.ended:
                return self.text[self.position : self.position + 1]
            self._read_more()

    def take(self) -> Any:
        while True:
            try:
                value, end = self._decoder.raw_decode(self.text, self.position)
                break
            except json.JSONDecodeError as error:
                if self.ended or len(self.text) - self.position > MAX_OBJECT_CHARACTERS:
                    line = self.line + self.text.count("\n", self.position, error.pos)
                    raise self._error(f"not valid JSON: {error.msg}", line) from error
            self._read_more()
        self.line += self.text.count("\n", self.position, end)
        self.position = end
        return value

    def _read_more(self) -> None:
        """Read as much as is waiting to be decoded, so that a long object is not tried again too often."""
        wanted, block = max(CHUNK_BYTES, len(self.text) - self.position), b""
        while len(block) < wanted and not self.ended:
            more = next(self._blocks, b"")
            block, self.ended = block + more, not more
        try:
            self.text = self.text[self.position :] + self._utf8.decode(block, final=self.ended)
        except UnicodeDecodeError as error:
            raise self._error(f"not UTF-8: byte {error.object[error.start]:#x}", self.line) from error
        self.position = 0

    def _error(self, what: str, line: int) -> DataError:
        return DataError(what, where=f"{self.path}:{line}", fix="fix the file")
