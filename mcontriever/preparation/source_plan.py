"""From a recipe's sources to shards, in a fixed order: sources, then patterns, languages, names."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mcontriever
from mcontriever.errors import ConfigError, DataError
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
    for place, source in enumerate(sources):
        languages, filters = source["languages"], dict(source["filters"])
        theirs = dict(languages) if isinstance(languages, Mapping) else {code: code for code in languages}
        for code in theirs:
            if not LANGUAGE_CODE.fullmatch(code):
                fix = "use letters, digits and hyphens: sw, zh-Hans"
                raise ConfigError(f"{code!r} is not a language code", fix=fix)
        shared = {
            "reader": source["reader"],
            "languages": {name: code for code, name in theirs.items()} | {code: code for code in theirs},
            "fields": dict(source["fields"]),
            "max_line_bytes": filters.pop("max_line_bytes"),
        }
        rules = Rules(**{**filters, "buckets": tuple(filters["buckets"])})
        inputs = _hub_inputs(source, theirs) if source["reader"] == "hub" else _all_files(place, source, theirs)
        jobs += [
            Job(SourceShard(number, **shared, **given), rules, source["titles"])
            for number, given in enumerate(inputs, start=len(jobs))
        ]
    return jobs


def _all_files(place: int, source: Mapping[str, Any], theirs: Mapping[str, str]) -> list[dict[str, Any]]:
    """Where some languages have no files, the error names the setting that leaves them out."""
    try:
        return list(_file_inputs(source, theirs))
    except DataError as error:
        there = [code for code in theirs if _has_files(source, {code: theirs[code]})]
        if not there:
            raise
        chosen = {code: theirs[code] for code in there} if isinstance(source["languages"], Mapping) else there
        setting = f"--set 'sources.{place}.languages={json.dumps(chosen)}'"
        missing = ", ".join(code for code in theirs if code not in there)
        raise DataError(
            f"no files of {missing}", where=error.where, fix=f"get them, or prepare the others alone: {setting}"
        ) from error


def _has_files(source: Mapping[str, Any], one: Mapping[str, str]) -> bool:
    try:
        return bool(list(_file_inputs(source, one)))
    except DataError:
        return False


def _file_inputs(source: Mapping[str, Any], theirs: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    package = str(Path(mcontriever.__file__).parent)
    patterns = [path.replace(PACKAGE_SCHEME, f"{package}/", 1) for path in source["paths"]]
    ours = {name: code for code, name in theirs.items()}
    for path, values in expand_paths(patterns, language=list(theirs.values()), bucket=source["buckets"]):
        yield {
            "path": path,
            "language": ours.get(values.get("language", "")),
            "bucket": values.get("bucket") or _bucket_of(path),
            "source_bytes": file_bytes(path),
        }


def _bucket_of(path: str) -> str | None:
    """The bucket in a name like sw_head_0000.json.gz, for lines that do not name one."""
    found = re.search(r"_(head|middle|tail|all)_\d+\.json", path)
    return found[1] if found else None


def _hub_inputs(source: Mapping[str, Any], theirs: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """One input for each file of each language's configuration."""
    template, split = source["configuration"], source["split"]
    for path in source["paths"]:
        by_language = "{language}" in path + (template or "")
        choices: list[tuple[str | None, str]] = [*theirs.items()] if by_language else [(None, "")]
        for code, name in choices:
            place, configuration = path.replace("{language}", name), template and template.replace("{language}", name)
            parts = count_parts(place, configuration, split)
            given = {"path": place, "configuration": configuration, "split": split, "source_bytes": None}
            yield from ({**given, "language": code, "part": (part, parts)} for part in range(parts))
