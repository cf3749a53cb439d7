"""Read one source shard, document by document: CCNet, CC-100, JSON lines, Parquet, plain text, or a hub's data set.

Every reader streams, and yields a `Text` for each document or a `Damage` for what should have been one: a damaged line
costs that line, a damaged file costs what stands behind the damage, and neither is an exception.
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from mcontriever.preparation.source_text import Damage, Text, decoded, json_line_reader, text_of_record
from mcontriever.streams import DamagedFileError, damage_named, open_raw, scan_lines

PARQUET_ROWS = 256
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class SourceShard:
    """One input: a file, or one part of a hub data set. `number` is its place in the recipe's order."""

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
            return self.path
        parts = [self.path, self.configuration, self.split, f"part-{self.part[0]}-of-{self.part[1]}"]
        return "/".join(part for part in parts if part)


def read_shard(shard: SourceShard) -> Iterator[Text | Damage]:
    """All documents of the shard in the order of the file. Damage is yielded where it stands."""
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


def _json_lines(shard: SourceShard) -> Iterator[Text | Damage]:
    text_of_line = json_line_reader(shard.fields)
    for number, line in scan_lines(shard.path, shard.max_line_bytes):
        if number == 1 and line is not None:
            line = line.removeprefix(BYTE_ORDER_MARK)
        if line is None:
            yield _too_long(number, shard)
        elif line and not line.isspace():
            yield text_of_line(number, line)


def _plain_lines(shard: SourceShard) -> Iterator[Text | Damage]:
    """One document per line that is not blank."""
    for number, line in _lines(shard):
        if line is None:
            yield _too_long(number, shard)
        elif line and not line.isspace():
            text = decoded(line)
            yield Damage("undecodable", number, "not UTF-8") if text is None else Text(number, text)


def _blocks(shard: SourceShard) -> Iterator[Text | Damage]:
    """One document per run of lines between blank lines, as CC-100 has them."""
    first, lines, size = 0, list[bytes](), 0
    for number, line in itertools.chain(_lines(shard), [(-1, b"")]):
        if line is not None and (not line or line.isspace()):
            if size:
                yield _block(first, lines, size, shard)
            lines, size = [], 0
            continue
        first = first if size else number
        size += shard.max_line_bytes + 1 if line is None else len(line) + 1
        if line is not None and size <= shard.max_line_bytes:
            lines.append(line)


def _block(first: int, lines: list[bytes], size: int, shard: SourceShard) -> Text | Damage:
    if size > shard.max_line_bytes:
        return _too_long(first, shard)
    text = decoded(b"\n".join(lines))
    return Damage("undecodable", first, "not UTF-8") if text is None else Text(first, text)


def _parquet(shard: SourceShard) -> Iterator[Text | Damage]:
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        with damage_named(shard.path, pyarrow.ArrowException), open_raw(shard.path) as file:
            parquet = pyarrow.parquet.ParquetFile(file, pre_buffer=False, buffer_size=1 << 20)
            known = parquet.schema_arrow.names
            if shard.fields["text"] not in known:
                what = f"no column {shard.fields['text']!r}; the file has {', '.join(known)}"
                raise DamagedFileError("malformed", what, shard.path)
            columns = [name for name in shard.fields.values() if name in known]
            for batch in parquet.iter_batches(batch_size=PARQUET_ROWS, columns=columns, use_threads=False):
                for record in batch.to_pylist():
                    number += 1
                    yield text_of_record(number, record, shard.fields)
    except DamagedFileError as damage:
        damage.line = number + 1
        raise


def _hub(shard: SourceShard) -> Iterator[Text | Damage]:
    from mcontriever.preparation.hub_dataset import open_part

    rows = open_part(shard.path, shard.configuration, shard.split, shard.part)
    for number, record in enumerate(rows, start=1):
        yield text_of_record(number, record, shard.fields)


def _lines(shard: SourceShard) -> Iterator[tuple[int, bytes | None]]:
    for number, line in scan_lines(shard.path, shard.max_line_bytes):
        if number == 1 and line is not None:
            line = line.removeprefix(BYTE_ORDER_MARK)
        yield number, line.removesuffix(b"\r") if line is not None else None


def _too_long(number: int, shard: SourceShard) -> Damage:
    return Damage("too_long_line", number, f"more than {shard.max_line_bytes:,} bytes")
