"""From a recipe's sources to shards, in an order that never changes: sources, then patterns, languages, names."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mcontriever
from mcontriever.errors import ConfigError, DataError
from mcontriever.preparation.filters import LANGUAGE_CODE, Rules
from mcontriever.preparation.readers import SourceShard
from mcontriever.streams import expand_paths, is_remote, require_host

PACKAGE_SCHEME = "package://"  # files that come with this package


@dataclass(frozen=True, slots=True)
class Job:
    """One shard and what is done with it."""

    shard: SourceShard
    rules: Rules
    titles: bool


def plan_sources(sources: Iterable[Mapping[str, Any]]) -> list[Job]:
    """The shards of all sources of a recipe, numbered in its order."""
    jobs: list[Job] = []
    for source in sources:
        jobs += _plan_source(first_number=len(jobs), **source)
    return jobs


def _plan_source(
    *,
    first_number: int,
    reader: str,
    paths: Sequence[str],
    languages: Sequence[str] | Mapping[str, str],
    buckets: Sequence[str],
    configuration: str | None,
    split: str,
    fields: Mapping[str, str | None],
    titles: bool,
    filters: Mapping[str, Any],
) -> list[Job]:
    """The shards of one source, numbered from `first_number`."""
    theirs = dict(languages) if isinstance(languages, Mapping) else {code: code for code in languages}
    for code in theirs:
        if not LANGUAGE_CODE.fullmatch(code):
            raise ConfigError(f"language {code!r} is no code", fix="use letters, digits and hyphens: sw, zh-Hans")
    ours = {name: code for code, name in theirs.items()} | {code: code for code in theirs}
    rules = {name: value for name, value in filters.items() if name != "max_line_bytes"}
    rules["buckets"] = tuple(rules["buckets"])
    same: dict[str, Any] = {
        "reader": reader,
        "languages": ours,
        "fields": dict(fields),
        "max_line_bytes": filters["max_line_bytes"],
    }
    if reader == "hub":
        inputs = _hub_inputs(paths, theirs, configuration, split)
    else:
        inputs = _file_inputs(paths, theirs, ours, buckets)
    shards = [SourceShard(number, **same, **given) for number, given in enumerate(inputs, start=first_number)]
    return [Job(shard, Rules(**rules), titles) for shard in shards]


def _file_inputs(
    paths: Sequence[str], theirs: Mapping[str, str], ours: Mapping[str, str], buckets: Sequence[str]
) -> list[dict[str, Any]]:
    package = str(Path(mcontriever.__file__).parent)
    patterns = [path.replace(PACKAGE_SCHEME, f"{package}/", 1) for path in paths]
    found = expand_paths(patterns, language=list(theirs.values()), bucket=list(buckets))
    return [
        {
            "path": path,
            "language": ours.get(values["language"]) if "language" in values else None,
            "bucket": values.get("bucket") or _bucket_of(path),
            "source_bytes": _size_of(path, named=path in patterns),
        }
        for path, values in found
    ]


def _bucket_of(path: str) -> str | None:
    """The bucket in a name like sw_head_0000.json.gz, for lines that do not say it themselves."""
    found = re.search(r"_(head|middle|tail|all)_\d+\.json", path)
    return found[1] if found else None


def _size_of(path: str, *, named: bool) -> int | None:
    """The file's bytes. A file that the recipe names itself, without wildcards, must be there."""
    if is_remote(path):
        return _remote_size_of(path)
    local = Path(path.removeprefix("file://"))
    if named and not local.exists():
        raise DataError("no such file", where=path, fix="check the recipe's path")
    return local.stat().st_size if local.is_file() else None


def _remote_size_of(path: str) -> int | None:
    import fsspec

    scheme = path.split("://", 1)[0]
    if scheme in ("http", "https", "hf"):
        require_host(path, "download the files and give their local paths")
    try:
        file_system, name = fsspec.core.url_to_fs(path)
        return file_system.info(name).get("size")
    except FileNotFoundError as error:
        raise DataError("no such file", where=path, fix="check the recipe's path") from error
    except (ImportError, ValueError) as error:
        fix = f"pip install what fsspec needs for {scheme}:// (s3fs for s3://), or give local paths"
        raise ConfigError(f"{scheme}:// cannot be read here: {error}", where=path, fix=fix) from error


def _hub_inputs(
    paths: Sequence[str], theirs: Mapping[str, str], configuration: str | None, split: str
) -> list[dict[str, Any]]:
    """One input for each file of each language's configuration."""
    from mcontriever.preparation.hub_dataset import count_parts

    inputs: list[dict[str, Any]] = []
    for path in paths:
        by_language = "{language}" in path + (configuration or "")
        choices: list[tuple[str | None, str]] = [*theirs.items()] if by_language else [(None, "")]
        for code, name in choices:
            place = path.replace("{language}", name)
            chosen = configuration.replace("{language}", name) if configuration else None
            parts = count_parts(place, chosen, split)
            given = {"path": place, "language": code, "configuration": chosen, "split": split, "source_bytes": None}
            inputs.extend({**given, "part": (part, parts)} for part in range(parts))
    return inputs
