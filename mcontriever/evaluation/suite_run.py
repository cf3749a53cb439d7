"""A suite with several models, from the first task to the last file: MTEB's tasks, and scores from elsewhere.

The files hold all that is needed to repeat the run: command, versions, revisions of models and data, and counts.
"""

import os
import platform
import shlex
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mcontriever.evaluation.language_bias import LanguageCounts
from mcontriever.evaluation.mteb_run import language_counts, leaves_of, rows_of, run_task, subset_rows
from mcontriever.evaluation.published import published_systems
from mcontriever.evaluation.results import Benchmark, Row, SubsetScores, write_scores
from mcontriever.evaluation.score_report import write_report
from mcontriever.evaluation.suites import Suite
from mcontriever.progress import log

VERSIONS = ("mcontriever", "mteb", "torch", "transformers", "sentence-transformers", "datasets", "bm25s", "numpy")


@dataclass
class SuiteRun:
    """Collects scores and facts; `finish` writes them."""

    suite: Suite
    title: str
    output: Path
    scores: dict[str, dict[Row, float]] = field(default_factory=dict)
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)
    biases: dict[str, dict[str, LanguageCounts]] = field(default_factory=dict)
    started: float = field(default_factory=time.time)

    def evaluate(self, label: str, search: Any, tasks: Iterable[Any]) -> None:
        """One model on the MTEB tasks. What an earlier run finished in this folder is not run again."""
        started = time.time()
        rows = self.scores.setdefault(label, {})
        for task in tasks:
            log.info(f"{label}: {task.metadata.name}")
            subsets = run_task(search, label, task, self.suite.metrics, self.output)
            rows |= rows_of(task, subsets, self.suite.metrics)
            counts = language_counts(subsets)
            if counts is not None:
                self.biases.setdefault(task.metadata.name, {})[label] = counts
            for leaf in leaves_of(task):
                about = [subset for subset in subsets if subset.task == leaf.metadata.name]
                self.tasks[leaf.metadata.name] = _task_facts(leaf, about)
        self.models[label] = {**_model_facts(search.mteb_model_meta), "seconds": round(time.time() - started, 1)}

    def add(self, label: str, task: str, subsets: list[SubsetScores], facts: dict[str, Any]) -> None:
        """Scores that MTEB did not measure: a row per language, and their mean if there are several."""
        self.scores.setdefault(label, {}).update(subset_rows(task, subsets, list(subsets[0].values)))
        self.tasks[task] = facts

    def finish(self) -> str:
        """Write scores.json, facts.json, scores.md and the pictures; returns the main table."""
        metrics = self.suite.all_metrics
        facts = {
            "command": shlex.join(["mcontriever", *sys.argv[1:]]),
            "started": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(self.started)),
            "seconds": round(time.time() - self.started, 1),
            "suite": self.suite.name,
            "description": self.suite.description,
            "metrics": metrics,
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
            "versions": {name: version(name) for name in VERSIONS},
            "models": self.models,
            "tasks": self.tasks,
        }
        write_scores(self.output, self.scores, facts)
        return write_report(
            Benchmark.load(self.output),
            title=self.title,
            metrics=metrics,
            published=published_systems(self.suite.published),
            left_out=self.suite.left_out_of_averages,
            highlighted=self.suite.highlighted,
            biases=self.biases,
        )


def _task_facts(task: Any, subsets: list[SubsetScores]) -> dict[str, Any]:
    counts = dict(getattr(task, "counts", {}))
    odd = {what: count for what, count in counts.items() if count and what not in ("queries", "documents")}
    return {
        "revision": task.metadata.revision,
        "split": task.eval_splits[0],
        "subsets": len(subsets),
        "queries": sum(len(subset.queries) for subset in subsets),
        "counts": odd,
    }


def _model_facts(meta: Any) -> dict[str, Any]:
    names = {
        "n_parameters": "parameters",
        "embed_dim": "dimension",
        "max_tokens": "max_length",
        "similarity_fn_name": "similarity",
    }
    known = {ours: getattr(meta, theirs) for theirs, ours in names.items()}
    told = {name: str(getattr(value, "value", value)) for name, value in known.items() if value is not None}
    return {"name": meta.name, "revision": str(meta.revision), **told}
