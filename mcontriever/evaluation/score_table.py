"""The score table: a row per task and language, a column per system, measured ones first, then published ones.

All values are percent. The average covers only what every column has, and says how many tasks and subsets these are. If
a column has more, its own average is below with its own count. "Best on" counts the rows where a system has the
highest value shown, as the papers do: over every row, in-domain ones too, and a tie counts for each.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from mcontriever.evaluation.language_names import ALL, language_name
from mcontriever.evaluation.published import PublishedSystem
from mcontriever.evaluation.results import Row

METRIC_NAMES = {
    "ndcg": "nDCG",
    "mrr": "MRR",
    "map": "MAP",
    "recall": "Recall",
    "precision": "Precision",
    "hit_rate": "Success",
    "answer_recall": "Answer recall",
}


@dataclass(frozen=True)
class Column:
    name: str
    measured: bool
    values: dict[Row, float]


@dataclass(frozen=True)
class Average:
    """Every task has the same weight, with one subset or eleven."""

    value: float
    tasks: int
    subsets: int


@dataclass(frozen=True)
class ScoreTable:
    """`rows` in order; `single_rows` are not means of others; the tasks `left_out` are not part of averages."""

    metric: str
    rows: list[Row]
    columns: list[Column]
    left_out: tuple[str, ...] = ()

    @property
    def single_rows(self) -> list[Row]:
        return [row for row in self.rows if not _is_mean_of_others(row, self.rows)]

    @property
    def in_averages(self) -> list[Row]:
        return [row for row in self.single_rows if row.task not in self.left_out]

    @property
    def common_rows(self) -> list[Row]:
        return [row for row in self.in_averages if all(row in column.values for column in self.columns)]

    def average(self, column: Column) -> Average | None:
        """Over the rows that every column has."""
        return _average(column, self.common_rows)

    def own_average(self, column: Column) -> Average | None:
        """Over all rows of this column."""
        return _average(column, [row for row in self.in_averages if row in column.values])

    def best_on(self, column: Column) -> int:
        return sum(column.name in self.best(row) for row in self.single_rows)

    def best(self, row: Row) -> set[str]:
        """The best systems of a row; none if there is only one."""
        present = {column.name: column.values[row] for column in self.columns if row in column.values}
        if len(present) < 2:
            return set()
        highest = max(round(value, 1) for value in present.values())
        return {name for name, value in present.items() if round(value, 1) == highest}


def score_table(
    measured: Mapping[str, Mapping[Row, float]],
    published: Sequence[PublishedSystem],
    metric: str,
    left_out: Sequence[str] = (),
) -> ScoreTable:
    """`measured` holds values from 0 to 1. A published system gets a column if it has one of the rows."""
    rows = list(dict.fromkeys(row for values in measured.values() for row in values if row.metric == metric))
    columns = [
        Column(model, True, {row: 100 * value for row, value in values.items() if row.metric == metric})
        for model, values in measured.items()
    ]
    for system in published:
        shared = {row: system.values[row] for row in rows if row in system.values}
        if shared:
            columns.append(Column(system.name, False, shared))
    return ScoreTable(metric, rows, columns, tuple(left_out))


def to_markdown(table: ScoreTable) -> str:
    header = ["task", "language", *(c.name if c.measured else f"*{c.name}*" for c in table.columns)]
    lines = [_line(header), _line(["---", "---", *["---:"] * len(table.columns)])]
    for row in table.rows:
        best = table.best(row)
        cells = [_cell(column.values.get(row), column.name in best) for column in table.columns]
        lines.append(_line([row.task, language_name(row.language), *cells]))
    lines += _summary_lines(table)
    return "\n".join(lines)


def to_json(table: ScoreTable) -> dict[str, object]:
    """The same table for programs: values in percent, null if a column lacks the row."""
    return {
        "metric": table.metric,
        "columns": [
            {
                "name": column.name,
                "measured": column.measured,
                "average": _average_json(table.average(column)),
                "own_average": _average_json(table.own_average(column)),
                "best_on": table.best_on(column),
                "values": [column.values.get(row) for row in table.rows],
            }
            for column in table.columns
        ],
        "rows": [{"task": row.task, "language": row.language} for row in table.rows],
        "left_out_of_averages": list(table.left_out),
    }


def metric_name(metric: str) -> str:
    """ "ndcg_at_10" -> "nDCG@10"."""
    kind, _, k = metric.rpartition("_at_")
    return f"{METRIC_NAMES.get(kind, kind)}@{k}" if kind else metric


def _summary_lines(table: ScoreTable) -> list[str]:
    if len(table.in_averages) < 2:
        return []
    lines = []
    shared = [table.average(column) for column in table.columns]
    own = [table.own_average(column) for column in table.columns]
    if shared and shared[0] is not None:
        head = f"**average** of {_counted(shared[0])} that all have"
        lines.append(_line([head, "", *(_cell(average.value if average else None) for average in shared)]))
    if own != shared:
        cells = [f"{average.value:.1f} ({_counted(average)})" if average else "–" for average in own]
        lines.append(_line(["own average", "", *cells]))
    if len(table.columns) > 1:
        lines.append(_line(["best on", "", *(str(table.best_on(column)) for column in table.columns)]))
    return lines


def _average_json(average: Average | None) -> dict[str, float] | None:
    return asdict(average) if average is not None else None


def _counted(average: Average) -> str:
    tasks = f"{average.tasks} task{'s' * (average.tasks > 1)}"
    return tasks if average.subsets == average.tasks else f"{tasks}, {average.subsets} subsets"


def _is_mean_of_others(row: Row, rows: Sequence[Row]) -> bool:
    """The row "all languages" must not count twice if the task's languages have rows of their own."""
    own_rows = [other for other in rows if other.task == row.task and other.language.split("->")[0] != ALL]
    return row.language.split("->")[0] == ALL and bool(own_rows)


def _average(column: Column, rows: Sequence[Row]) -> Average | None:
    by_task: dict[str, list[float]] = {}
    for row in rows:
        by_task.setdefault(row.task, []).append(column.values[row])
    if not by_task:
        return None
    means = [sum(values) / len(values) for values in by_task.values()]
    return Average(sum(means) / len(means), len(means), len(rows))


def _cell(value: float | None, best: bool = False) -> str:
    if value is None:
        return "–"
    return f"**{value:.1f}**" if best else f"{value:.1f}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
