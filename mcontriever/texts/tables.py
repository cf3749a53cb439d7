"""TSV, CSV and Parquet files as (row number, fields)."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mcontriever.errors import DataError
from mcontriever.texts.json_lines import decoded
from mcontriever.texts.locations import open_raw
from mcontriever.texts.streams import MAX_LINE_BYTES, DamagedFileError, damage_named, read_lines

PARQUET_ROWS = 256
Numbered = Iterator[tuple[int, dict[str, Any]]]


def read_table(path: str, delimiter: str) -> Numbered:
    """Rows under a header line, quoted as spreadsheets do; a row is numbered by its last line."""
    csv.field_size_limit(MAX_LINE_BYTES)
    lines = (decoded(line, f"{path}:{number}") + "\n" for number, line in read_lines(path))
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    header = _header(next(_rows(reader, path), []), path)
    for row in _rows(reader, path):
        if len(row) != len(header):
            raise DataError(
                f"{len(row)} columns under a header of {len(header)}",
                where=f"{path}:{reader.line_num}",
                fix="fix the line: a text that holds the delimiter or a line break needs quotes",
            )
        yield reader.line_num, dict(zip(header, row, strict=True))


def read_columns_by_number(path: str) -> Numbered:
    """A TSV file without header and quotes, as MS MARCO's collection.tsv is: its columns are "1", "2", ..."""
    for number, line in read_lines(path):
        if line and not line.isspace():
            columns = decoded(line, f"{path}:{number}").rstrip("\r").split("\t")
            yield number, {str(place): value for place, value in enumerate(columns, start=1)}


def read_parquet(path: str, columns: Sequence[str] | None = None, text: str | None = None) -> Numbered:
    """`columns` are read if the file has them (None: all); without the column `text` the file is refused."""
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        with damage_named(path, pyarrow.ArrowException, ValueError), open_raw(path) as file:
            parquet = pyarrow.parquet.ParquetFile(
                file, pre_buffer=False, buffer_size=1 << 20, page_checksum_verification=True
            )
            known = parquet.schema_arrow.names
            if text is not None and text not in known:
                raise DamagedFileError("malformed", f"no column {text!r}; the file has {', '.join(known)}", path)
            chosen = None if columns is None else [name for name in columns if name in known]
            for batch in parquet.iter_batches(batch_size=PARQUET_ROWS, columns=chosen, use_threads=False):
                for record in batch.to_pylist():
                    number += 1
                    yield number, record
    except DamagedFileError as damage:
        damage.line = number + 1
        raise


def _header(names: list[str], path: str) -> list[str]:
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise DataError(
            f"the header has {', '.join(sorted(twice))} more than once", where=f"{path}:1", fix="rename the columns"
        )
    return names


def _rows(reader: Any, path: str) -> Iterator[list[str]]:
    try:
        yield from filter(None, reader)
    except csv.Error as error:
        fix = "fix the quotes; a file without header and quotes is read by column: --fields id=1 --fields text=2"
        raise DataError(f"the quotes do not match: {error}", where=f"{path}:{reader.line_num}", fix=fix) from error


def by_number(fields: Mapping[str, str]) -> bool:
    """Whether fields are named by the number of their column: id=1 text=2."""
    return bool(fields) and all(name.isdigit() for name in fields.values())
