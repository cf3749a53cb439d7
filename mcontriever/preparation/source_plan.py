"""From a recipe's sources to shards, in a fixed order: sources, then patterns, languages, names."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mcontriever
from mcontriever.errors import ConfigError
from mcontriever.preparation.filters import LANGUAGE_CODE, Rules
from mcontriever.preparation.hub_parts import count_parts
from mcontriever.preparation.readers import SourceShard
from mcontriever.texts.locations import expand_paths, file_bytes

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
            raise ConfigError(f"{code!r} is not a language code", fix="use letters, digits and hyphens: sw, zh-Hans")
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
            "source_bytes": file_bytes(path),
        }
        for path, values in found
    ]


def _bucket_of(path: str) -> str | None:
    """The bucket in a name like sw_head_0000.json.gz, for lines that do not name one."""
    found = re.search(r"_(head|middle|tail|all)_\d+\.json", path)
    return found[1] if found else None


def _hub_inputs(
    paths: Sequence[str], theirs: Mapping[str, str], configuration: str | None, split: str
) -> list[dict[str, Any]]:
    """One input for each file of each language's configuration."""
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
