"""Turn shards of text into token shards, by a recipe.

    mcontriever prepare RECIPE.yaml --output TOKENS --tokenizer NAME_OR_DIR [--workers N] [--engine ray://HOST:PORT]

Each source shard is read, filtered and tokenized by one worker (`stage_shard`), on this machine or, with Ray, on any
machine of a cluster; then duplicates are found across all
shards (`repeats`) and dropped (`finish_shard`). Interrupted at any moment and started again, it resumes with the shards
that were not finished, and the result is the same to the byte.
"""

import contextlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mcontriever.amounts import shown_size
from mcontriever.child_processes import check_count
from mcontriever.config import PrepareRecipe
from mcontriever.disk import (
    FolderLock,
    atomic_path,
    disk_errors_named,
    read_json,
    remove_temporaries,
    write_bytes,
    write_json,
)
from mcontriever.drops import listed, shown
from mcontriever.errors import ModelError, RunError
from mcontriever.npy_files import mapped
from mcontriever.preparation.claim import REPORT, TOKENS, claim
from mcontriever.preparation.duplicates import repeats
from mcontriever.preparation.finish_shard import finish_shard
from mcontriever.preparation.preparation_report import build_report, print_table, warnings_of
from mcontriever.preparation.shard_folder import DUPLICATE_REASONS, RECORD, Settings
from mcontriever.preparation.source_plan import Job, plan_sources
from mcontriever.preparation.stage_shard import stage_shard
from mcontriever.preparation.work_estimate import estimate
from mcontriever.preparation.worker_processes import available_cores, run_in_processes
from mcontriever.progress import log, track
from mcontriever.ray_engine import LOCAL, Share, is_ray, ray_cluster
from mcontriever.shown_text import stored_without_credentials
from mcontriever.token_manifest import FORMAT, MANIFEST
from mcontriever.token_shards import count_windows
from mcontriever.uploaded_copy import uploading

REPORTED_WINDOW_TOKENS = 256
DESCRIPTIONS = ("licence", "description", "expected", "disk")  # changing these changes no token


def run(
    recipe: PrepareRecipe,
    output: str | Path,
    tokenizer: str,
    *,
    workers: int | None = None,
    strict: bool = False,
    restart: bool = False,
    engine: str = LOCAL,
    upload: str | None = None,
) -> dict[str, Any]:
    """Prepare the recipe's text into the folder `output`, copy it to the URL `upload`, and return the report."""
    output = Path(output)
    jobs = plan_sources(source.model_dump() for source in recipe.sources)
    tokenizer_plan, tokenizer_json = _describe_tokenizer(tokenizer)
    new_plan = _plan_record(recipe, jobs, tokenizer_plan)
    TOKENS.require_own(output)
    copying = uploading(output, upload, while_made=False)  # half a preparation cannot be gone on from elsewhere
    with copying, _workers(engine, workers) as crew, FolderLock(output), disk_errors_named(output):
        claim(output, new_plan, restart=restart)
        if (output / MANIFEST).is_file():
            log.info("already prepared; nothing to do")
        else:
            settings = _settings(output, recipe, tokenizer_plan, strict)
            write_bytes(settings.tokenizer_file, tokenizer_json.encode())
            _make_shards(jobs, settings, crew)
            remove_temporaries(output / "shards")  # of workers that Ray lost
            _conclude(output, {**new_plan["tokenizer"], "name": tokenizer}, new_plan["recipe"], jobs, settings)
        for name in ("staging", "keys"):
            shutil.rmtree(output / name, ignore_errors=True)
        report: dict[str, Any] = read_json(output / REPORT)
    for warning in warnings_of(report):
        log.warning("warning: %s", warning)
    if log.isEnabledFor(20):
        print_table(report, f"{recipe.name} in {output}")
    return report


class Crew(NamedTuple):
    """How many workers, and what makes them run a function over calls: see `run_in_processes`."""

    size: int
    run: Callable[[Callable[..., None], Sequence[tuple[Any, ...]]], Iterator[int | None]]


@contextlib.contextmanager
def _workers(engine: str, most: int | None) -> Iterator[Crew]:
    if not is_ray(engine):
        size = most or available_cores()
        check_count(size, "--workers")
        yield Crew(size, lambda function, calls: run_in_processes(function, calls, size))
        return
    with ray_cluster(engine) as cluster:

        def run_in_tasks(function: Callable[..., None], calls: Sequence[tuple[Any, ...]]) -> Iterator[int | None]:
            for ended in cluster.run(function, calls, Share(), most):
                yield None if ended is None else ended.call

        yield Crew(most or cluster.room(Share()), run_in_tasks)


def _describe_tokenizer(name: str) -> tuple[dict[str, Any], str]:
    from mcontriever.tokens import load_tokenizer, tokenizer_fingerprint

    tokenizer = load_tokenizer(name)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ModelError("no fast tokenizer", where=name, fix="use a model with a tokenizer.json")
    fingerprint = tokenizer_fingerprint(tokenizer)
    return {"fingerprint": fingerprint, "vocabulary": len(tokenizer)}, backend.to_str()


def _plan_record(recipe: PrepareRecipe, jobs: Sequence[Job], tokenizer: dict[str, Any]) -> dict[str, Any]:
    """Everything that the tokens depend on: runs with equal records write equal bytes."""
    record: dict[str, Any] = stored_without_credentials(
        {
            "format": FORMAT,
            "recipe": recipe.model_dump(mode="json", exclude=set(DESCRIPTIONS)),
            "tokenizer": tokenizer,
            "sources": {job.shard.name: job.shard.source_bytes for job in jobs},
        }
    )
    return record


def _settings(output: Path, recipe: PrepareRecipe, tokenizer: dict[str, Any], strict: bool) -> Settings:
    return Settings(
        folder=output,
        tokenizer_file=output / "staging" / f"tokenizer-{tokenizer['fingerprint'][:16]}.json",
        token_dtype="<u2" if tokenizer["vocabulary"] <= 1 << 16 else "<u4",
        normalisation=recipe.normalisation,
        exact=recipe.duplicates.exact,
        near_similarity=recipe.duplicates.near_similarity if recipe.duplicates.near else None,
        strict=strict,
    )


def _make_shards(jobs: Sequence[Job], settings: Settings, crew: Crew) -> None:
    """Stage the shards, find the duplicates, finish the shards; whatever is done already is skipped."""
    missing = [job for job in jobs if not _is_staged(job, settings)]
    if len(missing) < len(jobs):
        log.info("%d of %d shards were done before", len(jobs) - len(missing), len(jobs))
    if missing:
        token_bytes = np.dtype(settings.token_dtype).itemsize
        expected = estimate(missing, settings.tokenizer_file, token_bytes, crew.size)
        if expected is not None:
            _announce(str(expected), expected.disk_bytes, settings.folder)
    # The largest first, so that no worker has to finish a large one alone at the end.
    missing.sort(key=lambda job: -(job.shard.source_bytes or 0))
    calls = [(job, settings) for job in missing]
    megabytes = [max(1, round((job.shard.source_bytes or 0) / 1e6)) for job in missing]
    with track(sum(megabytes), "tokenizing", "MB of source") as progress:
        for ended in crew.run(stage_shard, calls):
            progress.advance(0 if ended is None else megabytes[ended], unfinished=_unfinished(settings))
    _mark_duplicates(jobs, settings)
    waiting = [number for number in range(len(jobs)) if not settings.finished(number).is_dir()]
    with track(len(waiting), "writing", "shards") as progress:
        for ended in crew.run(finish_shard, [(number, settings) for number in waiting]):
            progress.advance(0 if ended is None else 1)


def _unfinished(settings: Settings) -> str:
    """The progress of unfinished shards, from their sizes on disk."""
    made = 0
    with contextlib.suppress(FileNotFoundError):  # one has just been renamed
        for path in settings.staged(0).parent.glob(".partial-*/*.tokens.npy"):
            made += path.stat().st_size
    return f"{made / np.dtype(settings.token_dtype).itemsize / 1e6:,.1f} M tokens"


def _is_staged(job: Job, settings: Settings) -> bool:
    number = job.shard.number
    return settings.staged(number).is_dir() or settings.finished(number).is_dir()


def _announce(expected: str, disk_bytes: int, folder: Path) -> None:
    log.info(expected)
    free = shutil.disk_usage(folder).free
    if disk_bytes > free:
        log.warning(f"warning: {shown_size(disk_bytes)} of disk may be needed, {shown_size(free)} are free")


def _mark_duplicates(jobs: Sequence[Job], settings: Settings) -> None:
    """Record for each shard which of its documents duplicate an earlier one; all shards are staged now."""

    def load(shard: int, column: int) -> npt.NDArray[np.uint64]:
        return mapped(settings.of_documents(shard, "keys"))[:, column]

    shards = range(len(jobs))
    shapes = [mapped(settings.of_documents(shard, "keys")).shape for shard in shards]
    lengths, columns = [shape[0] for shape in shapes], shapes[0][1]
    exact = repeats(load, lengths, range(int(settings.exact)))
    near = repeats(load, lengths, range(int(settings.exact), columns)) & ~exact
    edges = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    for shard in shards:
        for reason, marks in zip(DUPLICATE_REASONS, (exact, near), strict=True):
            of_shard = marks[edges[shard] : edges[shard + 1]]
            if of_shard.any():
                with atomic_path(settings.of_documents(shard, reason)) as path, open(path, "wb") as file:
                    np.save(file, of_shard)


def _conclude(
    output: Path, tokenizer: dict[str, Any], recipe: dict[str, Any], jobs: Sequence[Job], settings: Settings
) -> None:
    """Write report and manifest from the shards' records; the manifest, written last, marks the run as complete."""
    records = [read_json(settings.finished(job.shard.number) / RECORD) for job in jobs]
    windows: dict[str, int] = {}
    shards = []
    for record in records:
        for language, counted in record["languages"].items():
            if counted["files"]:
                shards.append(_manifest_entry(record, language, counted["files"]))
                offsets = mapped(output / shards[-1]["offsets_file"])
                windows[language] = windows.get(language, 0) + count_windows(offsets, REPORTED_WINDOW_TOKENS)
    report = build_report(records, windows)
    if not shards:
        raise RunError("no document was kept", where=output / REPORT, fix=_why_nothing(report))
    write_json(output / REPORT, {**report, "window_tokens": REPORTED_WINDOW_TOKENS})
    identity = {"format": FORMAT, "recipe": recipe, "tokenizer": tokenizer}
    dtype = np.dtype(settings.token_dtype).name
    write_json(output / MANIFEST, {**identity, "dtype": dtype, "languages": report["languages"], "shards": shards})


def _manifest_entry(record: dict[str, Any], language: str, files: dict[str, Any]) -> dict[str, Any]:
    folder = f"shards/{record['shard']:05}"
    names = {kind: f"{folder}/{language}.{kind}.npy" for kind in files}
    return {
        "shard": record["shard"],
        "source": record["source"],
        "language": language,
        "documents": files["offsets"]["rows"] - 1,
        "tokens": files["tokens"]["rows"],
        "tokens_file": names["tokens"],
        "offsets_file": names["offsets"],
        "bytes": {names[kind]: described["bytes"] for kind, described in files.items()},
        "sha256": {names[kind]: described["sha256"] for kind, described in files.items()},
    }


def _why_nothing(report: dict[str, Any]) -> str:
    read, damaged = report["total"]["read"], [f"{file['path']}: {file['what']}" for file in report["damaged_files"]]
    dropped = f"all {read:,} documents were dropped: {listed(report['total']['dropped'])}" if read else ""
    return f"{'; '.join(filter(None, [dropped, shown(damaged)]))}; check the recipe, then use --restart"
