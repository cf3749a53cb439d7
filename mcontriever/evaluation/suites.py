"""Suites: the tasks and metrics of a benchmark, and the published systems beside it (`benchmarks/quality/suites`).

A suite is a YAML file. A task is one of MTEB's by name, a folder in BEIR layout, MTEB's XQuAD across languages, or the
recipe of a set of questions with answers.
"""

import difflib
from pathlib import Path
from typing import Any, Literal

import pydantic

from mcontriever.config import Section, load_config
from mcontriever.errors import ConfigError
from mcontriever.evaluation.pools import Pool
from mcontriever.shipped import shipped

SUITES = "benchmarks/quality/suites"
RECIPES = "data_recipes/evaluation"
QUESTIONS_FOLDER = "open-qa"
DEFAULT_METRICS = ("ndcg_at_10", "recall_at_100", "map_at_1000", "mrr_at_10")
_METRIC_KINDS = ("ndcg", "map", "recall", "precision", "hit_rate", "mrr")
_METRIC_DEPTHS = (1, 3, 5, 10, 20, 100, 1000)


class SuiteTask(Section):
    """`subsets` are named in MTEB's order, which for some tasks is documents first.

    `documents` keeps only the folder's documents in these languages. `pool` keeps one version of each parallel
    document, asked in all languages (scattered) or in its own; of MTEB's tasks in the languages of the subsets.
    """

    task: str | None = None
    folder: str | None = None
    documents: list[str] | None = None
    pool: Pool = "all"
    cross_xquad: list[str] | None = None
    subsets: list[str] | None = None
    split: str | None = None
    documents_first: bool = False

    @pydantic.model_validator(mode="after")
    def _is_one_thing(self) -> "SuiteTask":
        given = [name for name in ("task", "folder", "cross_xquad") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of task, folder, cross_xquad; found {given or 'none'}")
        if self.pool != "all" and self.cross_xquad is not None:
            raise ValueError("pool: give task: XQuADRetrieval in place of cross_xquad")
        return self


class EvaluationData(Section):
    """A file that no hub has: its source and its expected contents. Recipes: `data_recipes/evaluation`."""

    name: str
    description: str
    licence: str
    source: str
    file: str
    disk: str = ""


class QuestionSet(EvaluationData):
    """Questions whose answers must be in a retrieved passage."""

    layout: Literal["dpr", "mkqa"]
    questions: int
    languages: list[str]


class PassageFile(EvaluationData):
    passages: int


class Suite(Section):
    name: str
    description: str
    tasks: list[SuiteTask] = []
    question_sets: list[str] = []
    passages: str | None = None
    depths: list[int] = [20, 5, 100]
    metrics: list[str] = list(DEFAULT_METRICS)
    left_out_of_averages: list[str] = []
    published: list[str] = []
    highlighted: list[str] = []

    @pydantic.field_validator("metrics")
    @classmethod
    def _are_metrics(cls, metrics: list[str]) -> list[str]:
        for metric in metrics:
            kind, _, depth = metric.rpartition("_at_")
            if kind not in _METRIC_KINDS or not depth.isdigit() or int(depth) not in _METRIC_DEPTHS:
                kinds, depths = ", ".join(_METRIC_KINDS), ", ".join(map(str, _METRIC_DEPTHS))
                raise ValueError(f"{metric} must be KIND_at_DEPTH: a kind of {kinds} and a depth of {depths}")
        return metrics

    @property
    def all_metrics(self) -> list[str]:
        """What the tables show, the main one first."""
        answers = [f"answer_recall_at_{depth}" for depth in self.depths] if self.question_sets else []
        return answers + (self.metrics if self.tasks else [])

    @property
    def needs_hub(self) -> bool:
        return any(task.folder is None for task in self.tasks)


def question_set(name: str) -> QuestionSet:
    return load_config(QuestionSet, shipped(f"{RECIPES}/{name}.yaml"))


def passage_file(name: str) -> PassageFile:
    return load_config(PassageFile, shipped(f"{RECIPES}/{name}.yaml"))


def load_suite(name: str) -> Suite:
    """A suite by name, or a YAML file of your own."""
    if name.endswith((".yaml", ".yml")):
        return load_config(Suite, name)
    available = suite_names()
    if name not in available:
        near = difflib.get_close_matches(name, available, n=1, cutoff=0.4)
        fix = f"did you mean {near[0]}? " if near else ""
        raise ConfigError(f"no suite {name!r}", fix=f"{fix}The suites are {', '.join(available)}; or give a .yaml file")
    return load_config(Suite, shipped(SUITES) / f"{name}.yaml")


def suite_names() -> list[str]:
    return sorted(path.stem for path in shipped(SUITES).glob("*.yaml"))


def scattered_suite(suite: Suite) -> Suite:
    """With each parallel document in one language only."""
    tasks = [_scattered_task(entry) for entry in suite.tasks if entry.documents is None]
    return suite.model_copy(update={"tasks": tasks})


def _scattered_task(entry: SuiteTask) -> SuiteTask:
    if entry.cross_xquad is None:
        return entry.model_copy(update={"pool": "scattered"})
    languages = sorted({language for pair in entry.cross_xquad for language in pair.split("-")})
    return SuiteTask(task="XQuADRetrieval", subsets=languages, pool="scattered")


def suite_of_tasks(tasks: list[str]) -> Suite:
    """What `--tasks` names: folders in BEIR layout, or MTEB's tasks."""
    entries: list[Any] = [{"folder": task} if is_folder(task) else {"task": task} for task in tasks]
    return Suite(name="tasks", description="", tasks=[SuiteTask(**entry) for entry in entries])


def is_folder(task: str) -> bool:
    """A path, even a missing one: its error is then about a folder, not about a task's name."""
    return Path(task).is_dir() or "/" in task or task.startswith(".")
