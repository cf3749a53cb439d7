"""A line of a passage collection as a Document: TSV as MS MARCO or DPR write it, JSON lines of any common naming."""

from pathlib import Path

from mcontriever.errors import DataError
from mcontriever.texts.documents import Document, document_of, field_names
from mcontriever.texts.json_lines import json_object
from mcontriever.texts.locations import plain_suffix

DPR_HEADER = "id\ttext\ttitle"


class PassageParser:
    """One line to one Document. `fields` is what `embed --fields` needs to read the same file."""

    def __init__(self, path: Path, head: bytes) -> None:
        self.is_json = plain_suffix(str(path)) in (".jsonl", ".json") or head.lstrip().startswith(b"{")
        self.is_dpr = head.split(b"\n")[0].rstrip(b"\r").decode("utf-8", "replace") == DPR_HEADER
        self.fields = {} if self.is_json or self.is_dpr else {"id": "1", "text": "2", "title": "3"}
        self._names = field_names(None)

    def __call__(self, line: bytes, where: str = "") -> Document:
        if self.is_json:
            return document_of(json_object(line, where), self._names, where)
        parts = line.decode("utf-8", "replace").rstrip("\r").split("\t")
        if len(parts) == 2:
            return Document(parts[0], parts[1])
        if len(parts) == 3:
            return Document(parts[0], _unquoted(parts[1]) if self.is_dpr else parts[1], parts[2])
        what = f"expected id and text (and title) separated by tabs, found {len(parts)} columns"
        raise DataError(what, where=where, fix="fix the line")


def _unquoted(text: str) -> str:
    """DPR's psgs_w100.tsv was written by a CSV writer: quotes around some texts, doubled inside."""
    return text[1:-1].replace('""', '"') if len(text) > 1 and text[0] == text[-1] == '"' else text
