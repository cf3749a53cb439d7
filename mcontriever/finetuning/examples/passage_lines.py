"""A line of a passage collection as a Document: TSV as MS MARCO or DPR write it, JSON lines of any common naming."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import orjson

from mcontriever.texts.documents import Document

DPR_HEADER = "id\ttext\ttitle"
_ID_NAMES = ("_id", "id", "docid", "passage_id", "pid")
_TEXT_NAMES = ("text", "contents", "passage", "body")


class PassageParser:
    """One line to one Document."""

    def __init__(self, path: Path, head: bytes) -> None:
        self.is_json = _plain_name(path).endswith((".jsonl", ".json")) or head.lstrip().startswith(b"{")
        self.is_dpr = head.split(b"\n")[0].rstrip(b"\r").decode("utf-8", "replace") == DPR_HEADER

    def __call__(self, line: bytes) -> Document:
        if self.is_json:
            return _document_of_json(orjson.loads(line))
        parts = line.decode("utf-8", "replace").rstrip("\r").split("\t")
        if len(parts) == 2:
            return Document(parts[0], parts[1])
        if len(parts) == 3:
            return Document(parts[0], _unquoted(parts[1]) if self.is_dpr else parts[1], parts[2])
        raise ValueError(f"expected id and text (and title) by tabs, found {len(parts)} columns")

    def fields(self, line: bytes) -> dict[str, str]:
        """What readers that know only `_id`, `id` and `text` need: names, or columns by number."""
        if not self.is_json:
            return {} if self.is_dpr else {"id": "1", "text": "2", "title": "3"}
        record = orjson.loads(line)
        found = {"id": _name(record, _ID_NAMES), "text": _name(record, _TEXT_NAMES)}
        return {ours: name for ours, name in found.items() if name and name not in ("_id", "id", "text")}


def _document_of_json(record: object) -> Document:
    if not isinstance(record, dict):
        raise ValueError(f"expected a JSON object, found {type(record).__name__}")
    id_name, text_name = _name(record, _ID_NAMES), _name(record, _TEXT_NAMES)
    if id_name is None or text_name is None:
        wanted = _ID_NAMES if id_name is None else _TEXT_NAMES
        raise ValueError(f"no field {' or '.join(wanted)}; the line has {', '.join(record)}")
    title, language = str(record.get("title") or ""), str(record.get("language") or "")
    return Document(str(record[id_name]), str(record[text_name]), title, language)


def _name(record: Mapping[str, object], names: Sequence[str]) -> str | None:
    return next((name for name in names if record.get(name) is not None), None)


def _unquoted(text: str) -> str:
    """DPR's psgs_w100.tsv was written by a CSV writer: quotes around some texts, doubled inside."""
    return text[1:-1].replace('""', '"') if len(text) > 1 and text[0] == text[-1] == '"' else text


def _plain_name(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".xz").removesuffix(".zst")
