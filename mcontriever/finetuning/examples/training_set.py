"""Training examples as arrays of rows in a passage collection: any format in, one memory-mapped form out.

    examples = open_training_set(format="msmarco", collection="collection.tsv", queries="queries.train.tsv",
                                 qrels="qrels.train.tsv")
    examples[0].query, examples[0].positives[0].text

The first opening reads and checks the files and keeps the arrays beside them; later ones map these. Passages inside
the examples are written, each once, to a collection.

Shapes: E examples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mcontriever.disk import atomic_folder, read_json, write_json
from mcontriever.drops import Drops
from mcontriever.errors import DataError
from mcontriever.finetuning.examples.cache_folder import cache_folder
from mcontriever.finetuning.examples.example_source import ExampleSource
from mcontriever.finetuning.examples.example_writer import write_examples
from mcontriever.finetuning.examples.passage_collection import PassageCollection
from mcontriever.finetuning.examples.training_example import TrainingExample
from mcontriever.npy_files import mapped
from mcontriever.progress import log
from mcontriever.ragged import Ragged

STRICT_FIX = "fix the example, or set data.examples.strict=false to drop such examples and count them"


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """Example e asks query `query_rows_E[e]`; a score is NaN if no teacher gave one."""

    queries: PassageCollection
    passages: PassageCollection
    query_rows_E: np.ndarray
    positives: Ragged
    negatives: Ragged
    positive_scores: Ragged
    negative_scores: Ragged
    fingerprint: str
    problems: dict[str, Any]

    def __len__(self) -> int:
        return len(self.query_rows_E)

    @cached_property
    def has_scores(self) -> bool:
        """Whether a teacher scored any negative."""
        return bool(np.isfinite(self.negative_scores.values_T).any())

    @cached_property
    def most_positives(self) -> int:
        return int(self.positives.lengths_N.max())

    def __getitem__(self, example: int) -> TrainingExample:
        """One example with its texts."""
        query = self.queries.documents([int(self.query_rows_E[example])])[0]
        return TrainingExample(
            query=query.text,
            positives=tuple(self.passages.documents(self.positives[example])),
            negatives=tuple(self.passages.documents(self.negatives[example])),
            id=query.id,
            language=query.language,
            positive_scores=_known(self.positive_scores[example]),
            negative_scores=_known(self.negative_scores[example]),
        )


def open_training_set(
    *,
    format: str,
    paths: Sequence[str] = (),
    collection: str | None = None,
    queries: str | None = None,
    qrels: str | None = None,
    triples: str | None = None,
    split: str = "train",
    fields: Mapping[str, str] | None = None,
    unlabelled: bool = False,
    strict: bool = False,
    cache: str | Path | None = None,
) -> TrainingSet:
    """Read (once) and map examples in one of the formats dpr, tevatron, columns, msmarco, beir."""
    source = ExampleSource(
        format=format,
        paths=tuple(paths),
        collection=collection,
        queries=queries,
        qrels=qrels,
        triples=triples,
        split=split,
        fields=dict(fields or {}),
        unlabelled=unlabelled,
    )
    files = source.files()
    first = files[0] if files else Path(source.paths[0].replace("/", "--"))
    folder = cache_folder(first, cache) / f"{first.name}.examples-{source.fingerprint()}"
    if not (folder / "manifest.json").is_file():
        _write(source, folder, Drops(strict_fix=STRICT_FIX if strict else None), cache)
    elif strict:
        _refuse_problems(folder)
    return _map(source, folder, cache)


def _refuse_problems(folder: Path) -> None:
    """What an earlier reading without `strict` dropped and counted is an error with it."""
    for reason, found in read_json(folder / "manifest.json")["problems"].items():
        Drops(strict_fix=STRICT_FIX).count(reason, found["places"][0])


def _write(source: ExampleSource, folder: Path, drops: Drops, cache: str | Path | None) -> None:
    passages_file = source.passages_file()
    collection = None if passages_file is None else PassageCollection.open(passages_file, cache)
    log.info(f"reading {source.format} examples into {folder}")
    with atomic_folder(folder) as temporary:
        count = write_examples(
            source.read(drops, cache),
            temporary,
            collection=collection,
            drops=drops,
            may_repeat_queries=source.may_repeat_queries,
            may_lack_positives=source.unlabelled,
        )
        if not count:
            reasons = ", ".join(f"{number:,} x {reason}" for reason, number in drops.counts.items())
            places = ", ".join(place for reason in drops.places.values() for place in reason[:2])
            raise DataError(
                f"no example can be used{f': {reasons}' if reasons else ''}",
                where=places or ", ".join(source.paths),
                fix="check the format and the names of its fields",
            )
        write_json(temporary / "manifest.json", {"examples": count, "problems": drops.report()})


def _map(source: ExampleSource, folder: Path, cache: str | Path | None) -> TrainingSet:
    manifest = read_json(folder / "manifest.json")
    for reason, found in manifest["problems"].items():
        log.warning(f"{found['count']:,} x {reason}: {', '.join(found['places'])}")
    collection = source.passages_file()
    return TrainingSet(
        queries=PassageCollection.open(folder / "queries.jsonl"),
        passages=PassageCollection.open(folder / "passages.jsonl" if collection is None else collection, cache),
        query_rows_E=mapped(folder / "query_rows.npy"),
        positives=_rows(folder, "positives", "positives"),
        negatives=_rows(folder, "negatives", "negatives"),
        positive_scores=_rows(folder, "positive_scores", "positives"),
        negative_scores=_rows(folder, "negative_scores", "negatives"),
        fingerprint=folder.name.rsplit("-", 1)[1],
        problems=manifest["problems"],
    )


def _rows(folder: Path, values: str, offsets: str) -> Ragged:
    return Ragged(mapped(folder / f"{values}.npy"), mapped(folder / f"{offsets}_offsets.npy"))


def _known(scores: np.ndarray) -> tuple[float, ...]:
    return () if np.isnan(scores).any() else tuple(scores.tolist())
