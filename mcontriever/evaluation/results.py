"""What a benchmark writes into its folder, and how it is read.

scores.json    [{model, task, language, metric, value}], values from 0 to 1 under MTEB's names of metrics
table.json     the tables of scores.md with the published systems beside ours, in percent
facts.json     format number, command, versions, fingerprints and counts: all that is needed to repeat the run
queries/       MODEL/TASK/SUBSET.json: the score of each query, for significance tests and language bias
mteb/          MTEB's own result files, for MTEB's tools
"""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pydantic

from mcontriever.disk import read_json, write_json
from mcontriever.errors import StoreError
from mcontriever.output_folder import FolderKind
from mcontriever.records import checked_record, read_record

FORMAT = 1
AGAIN = "run the benchmark again"
SCORES = FolderKind("folder of scores", marks=("scores.json", "facts.json", "queries", "mteb"))


@dataclass(frozen=True, order=True)
class Row:
    """What a number in a table measures. `language` may be a direction, query before document: "ar->en"."""

    task: str
    language: str
    metric: str


@dataclass(frozen=True)
class SubsetScores:
    """One subset of a task with one model: a value per query and metric, and the languages of the hits.

    `answer_languages`: of each query's relevant documents, in a pool of several languages where they are in one each.
    """

    model: str
    revision: str
    task: str
    data_revision: str
    subset: str
    language: str
    queries: list[str]
    values: dict[str, list[float]]
    languages: dict[str, Any] | None = None
    answer_languages: list[str] | None = None

    def save(self, folder: Path) -> None:
        write_json(subset_path(folder, self.model, self.task, self.subset), {"format": FORMAT, **asdict(self)})

    @classmethod
    def load(cls, path: Path) -> "SubsetScores":
        stored = read_json(path)
        _check_format(stored, path)
        found = checked_record(stored, cls, path, fix=AGAIN)
        lengths = [len(column) for column in found.values.values()]
        lengths += [] if found.answer_languages is None else [len(found.answer_languages)]
        if any(length != len(found.queries) for length in lengths):
            raise StoreError("not one value for each query", where=path, fix=AGAIN)
        return found

    def by_query(self, metric: str) -> dict[str, float]:
        return dict(zip(self.queries, self.values[metric], strict=True))

    def mean(self, metric: str) -> float:
        return float(np.mean(self.values[metric]))


def subset_path(folder: Path, model: str, task: str, subset: str) -> Path:
    return folder / "queries" / file_name(model) / file_name(task) / f"{file_name(subset)}.json"


def file_name(text: str) -> str:
    """A label as a file name. Labels that differ keep different names."""
    return re.sub(r"[^\w.+@=-]+", "_", text.replace("/", "__"))


def is_stored(path: Path, revision: str, data_revision: str, metrics: Sequence[str]) -> bool:
    """Whether these metrics of this model on these data are in the file already."""
    if not path.is_file():
        return False
    stored = SubsetScores.load(path)
    same = (stored.revision, stored.data_revision) == (revision, data_revision)
    return same and set(metrics) <= set(stored.values)


def write_scores(folder: Path, scores: dict[str, dict[Row, float]], facts: dict[str, Any]) -> None:
    rows = [
        {"model": model, "task": row.task, "language": row.language, "metric": row.metric, "value": round(value, 6)}
        for model, values in scores.items()
        for row, value in values.items()
    ]
    write_json(folder / "facts.json", {"format": FORMAT, **facts})
    write_json(folder / "scores.json", rows)


@dataclass(frozen=True)
class _Score:
    model: str
    task: str
    language: str
    metric: str
    value: float


@dataclass(frozen=True)
class _Facts:
    tasks: dict[str, Any]
    metrics: Annotated[list[str], pydantic.Field(min_length=1)]


@dataclass(frozen=True)
class Benchmark:
    """A folder that `mcontriever benchmark` wrote."""

    folder: Path
    scores: dict[str, dict[Row, float]]
    facts: dict[str, Any]

    @classmethod
    def load(cls, path: str | Path) -> "Benchmark":
        """`path` is the folder or the scores.json in it."""
        folder = Path(path)
        folder = folder.parent if folder.name == "scores.json" else folder
        if not (folder / "scores.json").is_file():
            raise StoreError("no scores.json here", where=folder, fix="give the --output folder of a benchmark")
        facts = read_json(folder / "facts.json")
        _check_format(facts, folder / "facts.json")
        checked_record(facts, _Facts, folder / "facts.json", fix=AGAIN)
        scores: dict[str, dict[Row, float]] = {}
        for one in read_record(folder / "scores.json", list[_Score], fix=AGAIN):
            scores.setdefault(one.model, {})[Row(one.task, one.language, one.metric)] = one.value
        if not scores:
            raise StoreError("the file holds no scores", where=folder / "scores.json", fix=AGAIN)
        return cls(folder, scores, facts)

    def subsets(self, model: str) -> list[SubsetScores]:
        """The scores of single queries for this run's tasks; an earlier run may have left others in the folder."""
        found = sorted((self.folder / "queries" / file_name(model)).glob("*/*.json"))
        return [subset for subset in map(SubsetScores.load, found) if subset.task in self.facts["tasks"]]


def _check_format(stored: Any, path: Path) -> None:
    found = stored.get("format") if isinstance(stored, dict) else None
    if found != FORMAT:
        raise StoreError(
            f"the file has format {found}, this version of mcontriever reads format {FORMAT}",
            where=path,
            fix="run the benchmark again with this version, or read the file with the version that wrote it",
        )
