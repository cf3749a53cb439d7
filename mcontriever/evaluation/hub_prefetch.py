"""`--prefetch FOLDER`: fetch what `--offline FOLDER` needs without a network, in the layout of the hub's cache."""

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mcontriever.amounts import shown_size
from mcontriever.disk import atomic_path
from mcontriever.errors import HubError
from mcontriever.evaluation.official_tasks import repositories_of
from mcontriever.evaluation.suites import QUESTIONS_FOLDER, EvaluationData, Suite, passage_file, question_set
from mcontriever.hosts import require_host
from mcontriever.progress import log


def prefetch(folder: Path, suite: Suite, tasks: Sequence[Any], models: Iterable[tuple[str, str | None]]) -> None:
    """The tasks' data, models as (name, revision), the suite's questions and passages. Existing files stay."""
    for repository, pinned in repositories_of(tasks):
        _snapshot(folder, repository, pinned, "dataset")
    for name, revision in models:
        _snapshot(folder, name, revision, "model")
    files: list[EvaluationData] = [question_set(name) for name in suite.question_sets]
    if suite.passages is not None:
        files.append(passage_file(suite.passages))
    for file in files:
        log.info(f"{file.name}: {file.licence}{f'; {file.disk}' if file.disk else ''}")
        _download(folder / QUESTIONS_FOLDER / file.file, file.source)
    log.info(f"{folder} is ready: run the same suite with --offline {folder}")


def _snapshot(folder: Path, repository: str, revision: str | None, kind: str) -> None:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        info: Any = HfApi().repo_info(repository, revision=revision, repo_type=kind, files_metadata=True)
        size = sum(file.size or 0 for file in info.siblings or [])
        log.info(f"{repository} ({kind}, revision {(revision or info.sha or 'newest')[:12]}): {shown_size(size)}")
        snapshot_download(repository, revision=revision, repo_type=kind, cache_dir=folder / "hub")
    except HfHubHTTPError as error:
        raise HubError(
            f"the {kind} {repository} cannot be fetched: {str(error).splitlines()[0]}",
            where=folder,
            fix="check the name, and your access with: hf auth login",
        ) from error


def _download(path: Path, url: str) -> None:
    if path.is_file():
        log.info(f"{path.name} exists already")
        return
    require_host(url, f"fetch {url} on another machine and copy it to {path}")
    import fsspec

    with atomic_path(path) as temporary, fsspec.open(url, "rb").open() as source, open(temporary, "wb") as target:
        size = getattr(source, "size", None)
        log.info(f"{url}: {shown_size(size)}" if size else url)
        shutil.copyfileobj(source, target, 1 << 20)
