"""Score models on retrieval tasks through MTEB, and set the results beside the published ones.

mcontriever benchmark --model M... (--suite NAME | --tasks FOLDER...) --output DIR [--offline FOLDER]
mcontriever benchmark --prefetch FOLDER --suite NAME        what --offline FOLDER needs, where there is a network
mcontriever benchmark --compare A B                         two results: what changed, and whether it is significant
"""

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcontriever.disk import FolderLock
from mcontriever.errors import ConfigError, DataError, HubError, ModelError
from mcontriever.evaluation.known_models import published_as
from mcontriever.evaluation.model_specs import ModelSpec, parse_models
from mcontriever.evaluation.published import published_systems
from mcontriever.evaluation.results import SCORES
from mcontriever.evaluation.suites import Suite, load_suite, scattered_suite, suite_of_tasks
from mcontriever.hosts import require_host
from mcontriever.hub import is_at_hand
from mcontriever.progress import log
from mcontriever.shipped import shipped
from mcontriever.standard_output import writing_results

OFFLINE_WAY = (
    "where there is a network, run: mcontriever benchmark --prefetch FOLDER with the same --suite and --model; "
    "then here the same command with --offline FOLDER"
)
OVER_THE_ATLAS = ("atlas", "mixed")
HUB = "https://huggingface.co"


@dataclass(frozen=True)
class Request:
    """The options of the command line."""

    models: Sequence[str] = ()
    suite: str | None = None
    tasks: Sequence[str] = ()
    output: Path | None = None
    offline: Path | None = None
    prefetch: Path | None = None
    compare: tuple[str, str] | None = None
    stores: Sequence[Path] = ()
    center_languages: bool = False
    scatter: bool = False
    rerank_depth: int = 100
    device: str = "auto"
    card: bool = False


def run(request: Request) -> None:
    if request.compare is not None:
        _compare(*request.compare)
        return
    if (request.suite is None) == (not request.tasks):
        raise ConfigError("give either --suite NAME or --tasks FOLDER...", fix="for example --suite atlas")
    suite = suite_of_tasks(list(request.tasks)) if request.suite is None else load_suite(request.suite)
    suite = scattered_suite(suite) if request.scatter else suite
    specs = parse_models(request.models)
    if request.prefetch is not None:
        _prefetch(request.prefetch, suite, specs)
        return
    if not specs or request.output is None:
        raise ConfigError("nothing to score", fix="give --model (one or more) and --output DIR")
    # A suite's tasks exist, so an unreachable hub is reported at once; a name that the user gave is checked first.
    offline = _data_folder(request, suite) if request.suite else None
    specs = _models_at_hand(specs, suite, offline)
    _quiet_libraries(offline)
    SCORES.require_own(request.output)
    with FolderLock(request.output):
        _measure(request, suite, specs, request.output, offline)


def _measure(request: Request, suite: Suite, specs: dict[str, ModelSpec], output: Path, offline: Path | None) -> None:
    from mcontriever.assembly.benchmarked_models import open_passages, searches
    from mcontriever.evaluation.answer_run import measure_answers
    from mcontriever.evaluation.card_scores import score_block, write_scores_into_card
    from mcontriever.evaluation.suite_run import SuiteRun

    tasks = _tasks(suite)
    offline = offline or _data_folder(request, suite)
    names = [task.metadata.name for task in tasks]
    title = suite.name if request.suite else f"{', '.join(names[:3])}{f' and {len(names) - 3} more' * (len(names) > 3)}"
    run = SuiteRun(suite, title, output)
    if tasks:
        for label, search in searches(specs, request.center_languages, request.rerank_depth, request.device):
            run.evaluate(label, search, _with_data(tasks, suite, offline))
    if suite.question_sets:
        for label, spec in specs.items():
            passages = open_passages(spec, request.stores, request.rerank_depth, request.device)
            measure_answers(run, label, passages, _questions_folder(request))
    report = run.finish()
    with writing_results():
        sys.stdout.write(f"{report}\n")
    if request.card:
        for label, spec in specs.items():
            name = spec.parts[0].name
            if spec.is_one_encoder and Path(name).is_dir():
                write_scores_into_card(Path(name) / "README.md", score_block(output, label))
    log.info(f"written to {output}: scores.md, scores.png, scores.json")


def _tasks(suite: Suite) -> list[Any]:
    from mcontriever.evaluation.beir_tasks import beir_task
    from mcontriever.evaluation.official_tasks import official_task

    tasks = []
    for entry in suite.tasks:
        if entry.folder is None:
            tasks.append(official_task(entry))
        elif suite.name in OVER_THE_ATLAS:
            tasks.append(beir_task(shipped(entry.folder), "test", "atlas", entry.documents, entry.pool))
        else:
            tasks.append(beir_task(entry.folder, entry.split or "test", None, entry.documents, entry.pool))
    return tasks


def _with_data(tasks: list[Any], suite: Suite, offline: Path | None) -> Iterator[Any]:
    """Official tasks, made again for each model, because MTEB unloads their data (and our changes) after use."""
    from mcontriever.evaluation.official_tasks import official_task, use_offline

    for task, entry in zip(tasks, suite.tasks, strict=True):
        if entry.folder is not None:
            yield task
            continue
        fresh = official_task(entry)
        if offline is not None:
            use_offline(fresh, offline)
        yield fresh


def _data_folder(request: Request, suite: Suite) -> Path | None:
    """Where official tasks' data are; None if they come from the hub, which is then reachable."""
    if request.offline is not None:
        if not request.offline.is_dir():
            raise DataError("no such folder", where=request.offline, fix=OFFLINE_WAY)
        return request.offline
    if not suite.needs_hub:
        return None
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        home = _hub_cache()
        if not any(home.glob("datasets--*")):
            raise HubError("HF_HUB_OFFLINE is set, and the cache holds no data set", where=home, fix=OFFLINE_WAY)
        return home
    require_host(os.environ.get("HF_ENDPOINT", HUB), OFFLINE_WAY)
    return None


def _models_at_hand(specs: dict[str, ModelSpec], suite: Suite, offline: Path | None) -> dict[str, ModelSpec]:
    """Without the models that cannot be fetched, if the suite has their published figures and other models remain."""
    kept = {}
    for label, spec in specs.items():
        try:
            _require_models(spec, offline)
            kept[label] = spec
        except HubError as error:
            published = published_as(spec)
            if len(specs) == 1 or published not in {system.name for system in published_systems(suite.published)}:
                raise
            log.warning(f"{label}: {error.what}; the table has the published figures of {published} instead")
    if not kept:
        raise HubError(
            "none of the models is here, and none can be fetched", fix=f"give one as a folder, or {OFFLINE_WAY}"
        )
    return kept


def _require_models(spec: ModelSpec, offline: Path | None) -> None:
    """Every model is a folder, is bundled, is in the cache, or can be fetched."""
    for name in dict.fromkeys(spec.names):
        if is_at_hand(name):
            continue
        if name.startswith((".", "/", "~")) or name.count("/") > 1:
            raise ModelError("no such folder", where=name, fix="check the path of the model")
        home = _hub_cache() if offline is None else offline / "hub"
        if (home / f"models--{name.replace('/', '--')}" / "snapshots").is_dir():
            continue
        if offline is not None:
            raise HubError(f"no copy of the model {name}", where=offline, fix=OFFLINE_WAY)
        require_host(os.environ.get("HF_ENDPOINT", HUB), f"give {name} as a folder, or {OFFLINE_WAY}")


def _questions_folder(request: Request) -> Path:
    if request.offline is None:
        raise ConfigError(
            f"the suite {request.suite} reads its questions from a folder",
            fix=f"mcontriever benchmark --prefetch FOLDER --suite {request.suite}, then add --offline FOLDER",
        )
    return request.offline


def _hub_cache() -> Path:
    home = os.environ.get("HF_HOME", "~/.cache/huggingface")
    return Path(os.environ.get("HF_HUB_CACHE", f"{home}/hub")).expanduser()


def _quiet_libraries(offline: Path | None) -> None:
    """Before libraries are imported: no bars or messages; with --offline no network, and that folder's models."""
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    if offline is not None:
        os.environ["HF_HUB_OFFLINE"] = "1"
        os.environ["HF_HUB_CACHE"] = str(offline / "hub" if (offline / "hub").is_dir() else offline)


def _prefetch(folder: Path, suite: Suite, specs: dict[str, ModelSpec]) -> None:
    if suite.needs_hub or specs:
        require_host(os.environ.get("HF_ENDPOINT", HUB), "run this where there is a network")
    _quiet_libraries(None)
    from mcontriever.evaluation.hub_prefetch import prefetch
    from mcontriever.evaluation.models import hub_models
    from mcontriever.evaluation.official_tasks import official_task

    tasks = [official_task(entry) for entry in suite.tasks if entry.folder is None]
    prefetch(folder, suite, tasks, hub_models([name for spec in specs.values() for name in spec.names]))


def _compare(a: str, b: str) -> None:
    from mcontriever.evaluation.comparison import compare, to_markdown

    found = to_markdown(compare(a, b))
    with writing_results():
        sys.stdout.write(f"{found}\n")
