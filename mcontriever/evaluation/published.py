"""Published figures of other systems (benchmarks/quality/published.json) as columns of a score table."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from mcontriever.disk import read_json
from mcontriever.errors import ConfigError
from mcontriever.evaluation.results import Row
from mcontriever.shipped import shipped

PUBLISHED = "benchmarks/quality/published.json"


@dataclass(frozen=True)
class PublishedSystem:
    """Values in percent, as printed."""

    name: str
    source: str
    values: dict[Row, float]


def published_systems(table_ids: Iterable[str]) -> list[PublishedSystem]:
    """The systems of these tables. A name with other figures in a second table gets that table's source behind it."""
    systems: list[PublishedSystem] = []
    for table in published_tables(table_ids):
        for name, figures in table["systems"].items():
            columns = [Row(*column) for column in table["columns"]]
            values = {row: value for row, value in zip(columns, figures, strict=True) if value is not None}
            _add(systems, PublishedSystem(name, table["source"], values))
    return systems


def published_tables(table_ids: Iterable[str]) -> list[dict[str, Any]]:
    tables = {table["id"]: table for table in read_json(shipped(PUBLISHED))["tables"]}
    for wanted in table_ids:
        if wanted not in tables:
            raise ConfigError(f"no published table {wanted!r}", fix=f"the tables are {', '.join(tables)}")
    return [tables[wanted] for wanted in table_ids]


def _add(systems: list[PublishedSystem], new: PublishedSystem) -> None:
    for index, known in enumerate(systems):
        if known.name == new.name:
            shared = known.values.keys() & new.values.keys()
            if all(known.values[row] == new.values[row] for row in shared):
                systems[index] = PublishedSystem(known.name, known.source, {**known.values, **new.values})
                return
            new = PublishedSystem(f"{new.name} ({new.source.split(',')[0].split(' (')[0]})", new.source, new.values)
    systems.append(new)
