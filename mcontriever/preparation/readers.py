"""Read one source shard, document by document: CCNet, CC-100, JSON lines, Parquet, plain text, or a hub data set.

Every reader streams, and yields a `SourceDocument` or a `Damage` for what should have been one: a damaged line
costs that line, a damaged file costs what comes after the damage, and neither is an exception.
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from mcontriever.preparation.hub_parts import read_part
from mcontriever.preparation.source_document import (
    Damage,
    SourceDocument,
    document_of_row,
    json_line_reader,
    plain_document,
)
from mcontriever.shown_text import without_credentials
from mcontriever.texts.streams import DamagedFileError, scan_lines
from mcontriever.texts.tables import read_parquet

Items = Iterator[SourceDocument | Damage]


@dataclass(frozen=True, slots=True)
class SourceShard:
    """One input: a file, or one part of a hub data set. `number` is its position in the recipe's order."""

    number: int
    reader: str
    path: str
    source_bytes: int | None
    languages: Mapping[str, str]
    language: str | None = None
    bucket: str | None = None
    fields: Mapping[str, str | None] = field(default_factory=dict)
    max_line_bytes: int = 16_000_000
    configuration: str | None = None
    split: str = "train"
    part: tuple[int, int] = (0, 1)

    @property
    def name(self) -> str:
        """What a place in a report begins with."""
        if self.reader != "hub":
            return without_credentials(self.path)
        parts = [self.path, self.configuration, self.split, f"part-{self.part[0]}-of-{self.part[1]}"]
        return "/".join(part for part in parts if part)


def read_shard(shard: SourceShard) -> Items:
    """All documents and damage of the shard, in the order of the file."""
    readers = {"ccnet": _json_lines, "jsonl": _json_lines, "text": _plain_lines, "cc100": _blocks}
    reader = {**readers, "parquet": _parquet, "hub": _hub}[shard.reader]
    items = reader(shard)
    try:
        first = next(items, None)
        yield first or Damage("empty_file", 1, "the file holds no document", whole_file=True)
        yield from items
    except DamagedFileError as damage:
        if damage.half_line:
            yield Damage("truncated", damage.line, "the file ends within this line")
        yield Damage(damage.reason, damage.line, damage.what, whole_file=True)


def _json_lines(shard: SourceShard) -> Items:
    document_of_line = json_line_reader(shard.fields)
    for number, line in scan_lines(shard.path, shard.max_line_bytes):
        if line is None:
            yield _too_long(number, shard)
        elif line and not line.isspace():
            yield document_of_line(number, line)


def _plain_lines(shard: SourceShard) -> Items:
    """One document per line that is not blank."""
    for number, line in scan_lines(shard.path, shard.max_line_bytes):
        if line is None:
            yield _too_long(number, shard)
        elif line and not line.isspace():
            yield plain_document(number, line.removesuffix(b"\r"))


def _blocks(shard: SourceShard) -> Items:
    """One document per run of lines between blank lines, as CC-100 has them."""
    first, lines, size = 0, list[bytes](), 0
    for number, line in itertools.chain(scan_lines(shard.path, shard.max_line_bytes), [(-1, b"")]):
        if line is not None and (not line or line.isspace()):
            if size:
                yield _block(first, lines, size, shard)
            lines, size = [], 0
            continue
        first = first if size else number
        size += shard.max_line_bytes + 1 if line is None else len(line) + 1
        if line is not None and size <= shard.max_line_bytes:
            lines.append(line.removesuffix(b"\r"))


def _block(first: int, lines: list[bytes], size: int, shard: SourceShard) -> SourceDocument | Damage:
    if size > shard.max_line_bytes:
        return _too_long(first, shard)
    return plain_document(first, b"\n".join(lines))


def _parquet(shard: SourceShard) -> Items:
    columns = [name for name in shard.fields.values() if name is not None]
    for number, record in read_parquet(shard.path, columns, text=shard.fields["text"]):
        yield document_of_row(number, record, shard.fields)


def _hub(shard: SourceShard) -> Items:
    for number, record in read_part(shard.path, shard.configuration, shard.split, shard.part):
        yield document_of_row(number, record, shard.fields)


def _too_long(number: int, shard: SourceShard) -> Damage:
    return Damage("too_long_line", number, f"more than {shard.max_line_bytes:,} bytes")
