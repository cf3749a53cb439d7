"""Formats that refer to texts by id: MS MARCO's files and BEIR folders with training judgements.

    msmarco    collection.tsv, queries.train.tsv, and qrels.train.tsv or triples of ids (query, positive, negative)
    beir       corpus.jsonl, queries.jsonl, qrels/train.tsv; a grade of 0 or less is a hard negative

They yield passages without text; `training_set.py` finds their rows in the collection, which may be of any size.
"""

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

from mcontriever.drops import Drops
from mcontriever.errors import DataError
from mcontriever.finetuning.examples.example_formats import Placed
from mcontriever.finetuning.examples.passage_collection import PassageCollection
from mcontriever.finetuning.examples.training_example import TrainingExample
from mcontriever.texts.beir_folder import BeirFolder
from mcontriever.texts.documents import Document
from mcontriever.texts.streams import read_lines


def read_msmarco(
    queries: PassageCollection, drops: Drops, *, qrels: str | None = None, triples: str | None = None
) -> Iterator[Placed]:
    """One example for each query of the qrels, or for each run of triples with the same query and positive."""
    if (qrels is None) == (triples is None):
        given = "neither" if qrels is None else "both"
        raise DataError(f"expected qrels or triples, found {given}", where="data.examples", fix="give one of them")
    judged = _by_query(_judgements(str(qrels))) if qrels is not None else _triples(str(triples))
    return _with_queries(judged, queries, drops)


def read_unlabelled(queries: PassageCollection, qrels: str | None = None) -> Iterator[Placed]:
    """The queries that the qrels name no positive for, as examples without one."""
    judged = _judgements(qrels) if qrels is not None else iter(())
    labelled = {query_id for _, query_id, _, grade in judged if grade > 0}
    for start in range(0, len(queries), 4096):
        for query in queries.documents(range(start, min(start + 4096, len(queries)))):
            if query.id not in labelled:
                yield (
                    f"{queries.origin}: {query.id}",
                    TrainingExample(query.text, (), id=query.id, language=query.language),
                )


def read_beir(folder: BeirFolder, queries: PassageCollection, drops: Drops, split: str = "train") -> Iterator[Placed]:
    return _with_queries(_by_query(folder.judgements(split)), queries, drops)


_Judged = tuple[str, str, list[str], list[str]]


def _with_queries(judged: Iterator[_Judged], queries: PassageCollection, drops: Drops) -> Iterator[Placed]:
    while block := list(itertools.islice(judged, 4096)):
        rows = queries.rows_of([query_id for _, query_id, _, _ in block])
        found = iter(queries.documents(rows[rows >= 0]))
        for (place, query_id, positives, negatives), row in zip(block, rows.tolist(), strict=True):
            if row < 0:
                drops.count("query id not in the queries", place, query_id)
                continue
            query = next(found)
            yield (
                place,
                TrainingExample(
                    query=query.text,
                    positives=tuple(Document(identifier, "") for identifier in positives),
                    negatives=tuple(Document(identifier, "") for identifier in negatives),
                    id=query_id,
                    language=query.language,
                ),
            )


def _by_query(judgements: Iterable[tuple[str, str, str, int]]) -> Iterator[_Judged]:
    """Memory: one dictionary of ids. A query's place is its first line."""
    grades: dict[str, tuple[str, list[str], list[str]]] = {}
    for place, query_id, passage_id, grade in judgements:
        _, positives, negatives = grades.setdefault(query_id, (place, [], []))
        (positives if grade > 0 else negatives).append(passage_id)
    for query_id, (place, positives, negatives) in grades.items():
        yield place, query_id, positives, negatives


def _judgements(path: str) -> Iterator[tuple[str, str, str, int]]:
    """qrels lines are `query 0 passage grade`."""
    for number, (query_id, _, passage_id, grade) in _columns(path, 4):
        if not grade.lstrip("-").isdigit():
            raise DataError(f"the grade {grade!r} must be a whole number", where=f"{path}:{number}", fix="fix the line")
        yield f"{path}:{number}", query_id, passage_id, int(grade)


def _triples(path: str) -> Iterator[_Judged]:
    for (query_id, positive), lines in itertools.groupby(_columns(path, 3), key=lambda line: tuple(line[1][:2])):
        group = list(lines)
        yield f"{path}:{group[0][0]}", query_id, [positive], [parts[2] for _, parts in group]


def _columns(path: str, count: int) -> Iterator[tuple[int, list[str]]]:
    if not Path(path).is_file():
        raise DataError("no such file", where=path, fix="check the path")
    for number, line in read_lines(path):
        parts = line.decode("utf-8", "replace").split()
        if not parts:
            continue
        if len(parts) != count:
            raise DataError(
                f"expected {count} columns, found {len(parts)}", where=f"{path}:{number}", fix="fix the line"
            )
        yield number, parts
