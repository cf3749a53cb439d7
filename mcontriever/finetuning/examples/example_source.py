"""The files and the format of examples: checks, fingerprint, reading."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mcontriever.drops import Drops
from mcontriever.errors import ConfigError, DataError
from mcontriever.finetuning.examples.cache_folder import file_state
from mcontriever.finetuning.examples.example_formats import TEXT_FORMATS
from mcontriever.finetuning.examples.judged_collections import read_beir, read_msmarco, read_unlabelled
from mcontriever.finetuning.examples.passage_collection import PassageCollection
from mcontriever.finetuning.examples.training_example import TrainingExample
from mcontriever.texts.beir_folder import BeirFolder
from mcontriever.texts.locations import expand_paths, is_remote
from mcontriever.texts.rows import HUB_PREFIX

LAYOUT = 1
FORMATS = (*TEXT_FORMATS, "msmarco", "beir")


@dataclass(frozen=True, kw_only=True)
class ExampleSource:
    """`paths` are files (dpr, tevatron, columns) or one folder (beir); msmarco names each of its files."""

    format: str
    paths: tuple[str, ...] = ()
    collection: str | None = None
    queries: str | None = None
    qrels: str | None = None
    triples: str | None = None
    split: str = "train"
    fields: dict[str, str] = field(default_factory=dict)
    unlabelled: bool = False

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "ExampleSource":
        """From a configuration's values, which contain more than these fields."""
        own = {name: values[name] for name in cls.__dataclass_fields__ if name in values}
        return cls(**{**own, "paths": tuple(own.get("paths", ())), "fields": dict(own.get("fields") or {})})

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise ConfigError(f"unknown format {self.format!r}", where="data.examples", fix=f"choose {_or(FORMATS)}")
        given = {
            name
            for name, value in asdict(self).items()
            if value and name not in ("format", "split", "fields", "unlabelled")
        }
        needed = {"msmarco": {"collection", "queries"}}.get(self.format, {"paths"})
        optional = {"msmarco": {"qrels", "triples"}, "beir": set()}.get(self.format, {"collection"})
        if self.unlabelled and self.format != "msmarco":
            raise ConfigError(
                f"unlabelled queries are read in the format msmarco, found {self.format}",
                where="data.examples",
                fix="set format to msmarco, collection to the passages and queries to the queries (JSON lines or TSV)",
            )
        if not needed <= given or not given <= needed | optional or (self.format == "beir" and len(self.paths) != 1):
            raise ConfigError(
                f"the format {self.format} takes {_and(sorted(needed | optional))}, found {_and(sorted(given))}",
                where="data.examples",
                fix="a beir source has one folder in paths" if self.format == "beir" else "fix the names above",
            )

    @property
    def may_repeat_queries(self) -> bool:
        return self.triples is not None

    def passages_file(self) -> Path | None:
        """The collection that the examples' ids refer to; None if the examples contain their texts."""
        if self.format == "beir":
            return BeirFolder.load(self.paths[0]).path_of("corpus.jsonl")
        return Path(self.collection) if self.collection else None

    def files(self) -> list[Path]:
        """Every local file of the examples, except the collection."""
        if self.format == "beir":
            beir = BeirFolder.load(self.paths[0])
            return [beir.path_of(name) for name in (f"qrels/{self.split}.tsv", "queries.jsonl")]
        if self.format == "msmarco":
            named = [self.qrels, self.triples, self.queries]
            return [_existing(Path(name)) for name in named if name]
        local = [path for path in self.paths if not path.startswith(HUB_PREFIX) and not is_remote(path)]
        found = [Path(match) for match, _ in expand_paths(local)]
        inside = (file for path in found for file in ([path] if path.is_file() else sorted(path.rglob("*"))))
        return [file for file in inside if file.is_file()]

    def fingerprint(self) -> str:
        passages = self.passages_file()
        states = {str(file): file_state(file) for file in [*self.files(), *([passages] if passages else [])]}
        values = {name: value for name, value in asdict(self).items() if name != "unlabelled" or value}
        return hashlib.sha256(json.dumps([LAYOUT, values, states]).encode()).hexdigest()[:16]

    def read(self, drops: Drops, cache: str | Path | None) -> Iterator[tuple[str, TrainingExample]]:
        if self.format == "beir":
            beir = BeirFolder.load(self.paths[0])
            queries = PassageCollection.open(beir.path_of("queries.jsonl"), cache)
            return read_beir(beir, queries, drops, self.split)
        if self.format == "msmarco":
            queries = PassageCollection.open(str(self.queries), cache)
            if self.unlabelled:
                return read_unlabelled(queries, self.qrels)
            return read_msmarco(queries, drops, qrels=self.qrels, triples=self.triples)
        return TEXT_FORMATS[self.format](self.paths, self.split, self.fields)


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise DataError("no such file", where=path, fix="check the path")
    return path


def _or(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


def _and(names: list[str]) -> str:
    return ", ".join(names) if names else "nothing"
