"""MTEB's own tasks, from the hub, or offline from a folder that `--prefetch` filled.

The folder has the layout of the Hugging Face cache (`hub/datasets--ORG--NAME/snapshots/REVISION/...`). A plain copy of
a repository as `ORG/NAME/...` works too. The files are read in place, without a network.
"""

import difflib
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mteb
from mteb.abstasks.retrieval import AbsTaskRetrieval

from mcontriever.errors import ConfigError, DataError, HubError
from mcontriever.evaluation.cross_xquad import CrossLingualXQuAD
from mcontriever.evaluation.language_names import ALL, direction, short_code
from mcontriever.evaluation.mteb_run import leaves_of
from mcontriever.evaluation.parallel_tasks import ParallelTask
from mcontriever.evaluation.suites import SuiteTask
from mcontriever.progress import log

PREFERRED_SPLIT = "test"
DOCUMENTS_FIRST = ("BelebeleRetrieval", "MLQARetrieval")  # MTEB names their subsets so


def official_task(entry: SuiteTask) -> Any:
    """The task object with one split and the requested subsets; nothing is loaded yet."""
    if entry.cross_xquad is not None:
        return CrossLingualXQuAD(entry.cross_xquad)
    assert entry.task is not None
    subsets = _checked_subsets(entry)
    if entry.pool != "all" and subsets is not None:
        subsets = _among_their_languages(entry.task, subsets)
    task = _task_named(entry.task, subsets)
    for leaf in leaves_of(task):
        if not isinstance(leaf, AbsTaskRetrieval) or leaf.metadata.type != "Retrieval":
            raise ConfigError(
                f"{entry.task} is a task of type {leaf.metadata.type}; this benchmark runs retrieval tasks",
                fix="run it with mteb: mteb.evaluate(mcontriever.Encoder.load(...), tasks)",
            )
        _keep_one_split(leaf, entry)
        leaf.directions = _directions(leaf, entry.documents_first or entry.task in DOCUMENTS_FIRST)
    return task if entry.pool == "all" else ParallelTask(task, entry.pool)


def use_offline(task: Any, folder: Path) -> None:
    """Read a task's data from the files in `folder`."""
    for leaf in leaves_of(task):
        dataset = leaf.metadata.dataset
        snapshot = find_snapshot(folder, dataset["path"], dataset["revision"])
        leaf.metadata = leaf.metadata.model_copy(update={"dataset": {**dataset, "path": str(snapshot)}})


def find_snapshot(folder: Path, repository: str, revision: str) -> Path:
    cached = f"datasets--{repository.replace('/', '--')}"
    found: list[str] = []
    for home in (folder, folder / "hub"):
        snapshots = home / cached / "snapshots"
        if (snapshots / revision).is_dir():
            return snapshots / revision
        found += [path.name for path in snapshots.glob("*") if path.is_dir()]
    for plain in (folder / repository, folder / repository.replace("/", "__")):
        if plain.is_dir():
            return plain
    fix = f"where there is a network: mcontriever benchmark --prefetch {folder} with the same suite"
    if found:
        what = f"{repository} is here in revision {', '.join(found)}; the task needs {revision}"
        raise DataError(what, where=folder, fix=fix)
    raise HubError(f"no copy of the data set {repository}", where=folder, fix=fix)


def repositories_of(tasks: Sequence[Any]) -> list[tuple[str, str]]:
    """(repository, revision) of every data set that these tasks load."""
    leaves = [leaf for task in tasks for leaf in leaves_of(task)]
    return list(dict.fromkeys((leaf.metadata.dataset["path"], leaf.metadata.dataset["revision"]) for leaf in leaves))


def _task_named(name: str, subsets: list[str] | None = None) -> Any:
    try:
        return mteb.get_task(name, hf_subsets=subsets)
    except KeyError as error:
        nearest = ", ".join(_nearest_names(name)) or "none"
        raise ConfigError(
            f"MTEB has no task {name!r}",
            fix=f"the nearest names are: {nearest}; a folder in BEIR layout is given by its path, such as ./{name}",
        ) from error


def _nearest_names(wanted: str) -> list[str]:
    """Compared without case, and without the word in which nearly all names end."""
    plain = {name.lower().removesuffix("retrieval"): name for name in _retrieval_names()}
    asked = wanted.lower().removesuffix("retrieval")
    holding = [key for key in plain if asked in key][:3]
    near = difflib.get_close_matches(asked, plain, n=4, cutoff=0.5)
    return [plain[key] for key in dict.fromkeys([*holding, *near])]


@functools.cache
def _retrieval_names() -> list[str]:
    return [task.metadata.name for task in mteb.get_tasks(task_types=["Retrieval"])]


def _checked_subsets(entry: SuiteTask) -> list[str] | None:
    if entry.subsets is None:
        return None
    assert entry.task is not None
    known = _task_named(entry.task).metadata.hf_subsets
    for subset in entry.subsets:
        if subset not in known:
            beginning = [name for name in known if name.startswith(subset)]
            near = [*beginning, *difflib.get_close_matches(subset, known, n=3, cutoff=0.4)][:4]
            raise ConfigError(
                f"{entry.task} has no subset {subset!r}", fix=f"the nearest are {', '.join(near or known[:5])}"
            )
    return entry.subsets


def _among_their_languages(task: str, subsets: list[str]) -> list[str]:
    """All subsets in these languages: which documents are parallel shows only if every language is read."""
    languages_of: dict[str, list[str]] = _task_named(task).metadata.hf_subsets_to_langscripts
    known = {language for subset in subsets for language in languages_of[subset]}
    return [subset for subset, languages in languages_of.items() if known.issuperset(languages)]


def _keep_one_split(task: Any, entry: SuiteTask) -> None:
    splits = list(task.metadata.eval_splits)
    if entry.split is not None and entry.split not in splits:
        raise ConfigError(f"{task.metadata.name} has no split {entry.split!r}", fix=f"it has {', '.join(splits)}")
    chosen = entry.split or (PREFERRED_SPLIT if PREFERRED_SPLIT in splits else splits[0])
    if len(splits) > 1 and entry.split is None:
        log.info(f"{task.metadata.name}: only the split {chosen} is run (of {', '.join(splits)})")
    task.filter_eval_splits([chosen])


def _directions(task: Any, documents_first: bool) -> dict[str, str]:
    found = {}
    for subset, codes in task.metadata.hf_subsets_to_langscripts.items():
        languages = list(dict.fromkeys(short_code(code) for code in codes))
        if len(languages) == 1:
            found[subset] = languages[0]
        elif len(codes) == 2:
            asked, answering = reversed(languages) if documents_first else languages
            found[subset] = direction(asked, {answering})
        else:
            found[subset] = ALL
    return found
