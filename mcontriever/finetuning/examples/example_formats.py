"""What a row means: the formats that carry their texts with them, each read into TrainingExample.

    dpr        question, positive_ctxs, hard_negative_ctxs, negative_ctxs      DPR, Contriever, and what `mine` writes
    tevatron   query_id, query, positive_passages, negative_passages
    columns    anchor or query, positive, negative, negative_1, ...            sentence-transformers, BGE's pos and neg

A passage without text is a reference by its id into a collection (see `training_set.py`).
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from mcontriever.errors import DataError
from mcontriever.finetuning.examples.training_example import TrainingExample
from mcontriever.texts.documents import Document, first_of
from mcontriever.texts.locations import expand_paths
from mcontriever.texts.rows import HUB_PREFIX, read_rows

Placed = tuple[str, TrainingExample]
Scored = list[tuple[Document, float | None]]
Scores = tuple[float, ...]

_PASSAGE_IDS = ("passage_id", "docid", "psg_id", "_id", "id")
_COLUMN_NAMES = {
    "query": ("anchor", "query", "question"),
    "positive": ("positive", "positives", "pos"),
    "id": ("query_id", "id", "_id"),
    "language": ("language", "lang"),
    "score": ("score", "scores"),
}
_NEGATIVE = re.compile(r"^(negatives?|neg)(_\d+)?$")


def read_dpr(paths: Sequence[str], split: str = "train", fields: Mapping[str, str] | None = None) -> Iterator[Placed]:
    """`fields` may name another `score` than `teacher_score`: DPR's own scores are BM25's, not a teacher's."""
    score = _renamed({"score": "teacher_score"}, fields)["score"]
    for place, row in _rows_of(paths, split):
        lists = (row.get(name) for name in ("positive_ctxs", "hard_negative_ctxs", "negative_ctxs"))
        passages = [_passages(value, place, score) for value in lists]
        yield place, _example(row, place, ("question", "query"), ("id", "query_id", "qid"), *passages)


def read_tevatron(
    paths: Sequence[str], split: str = "train", fields: Mapping[str, str] | None = None
) -> Iterator[Placed]:
    score = _renamed({"score": "score"}, fields)["score"]
    for place, row in _rows_of(paths, split):
        lists = (row.get(name) for name in ("positive_passages", "negative_passages"))
        passages = [_passages(value, place, score) for value in lists]
        yield place, _example(row, place, ("query",), ("query_id",), *passages)


def read_columns(
    paths: Sequence[str], split: str = "train", fields: Mapping[str, str] | None = None
) -> Iterator[Placed]:
    """`fields` maps query, positive, positive_title, negative, id, language, score to the columns' own names."""
    ours = {name: (name,) for name in ("positive_title", "negative")} | _COLUMN_NAMES
    names = _renamed(ours, {name: (column,) for name, column in (fields or {}).items()})
    for place, row in _rows_of(paths, split):
        query = _text(row, names["query"], place)
        title = str(first_of(row, names["positive_title"]) or "")
        if not any(name in row for name in names["positive"]):
            raise _no_field(row, names["positive"], place, "positive")
        positives = tuple(Document("", text, title) for text in _texts(first_of(row, names["positive"])))
        negative_columns = (
            names["negative"] if fields and "negative" in fields else [name for name in row if _NEGATIVE.match(name)]
        )
        negatives = tuple(Document("", text) for name in negative_columns for text in _texts(row[name]))
        scores = _column_scores(row, first_of(row, names["score"]), len(positives), len(negatives), place)
        yield (
            place,
            TrainingExample(
                query=query,
                positives=positives,
                negatives=negatives,
                id=str(first_of(row, names["id"]) or ""),
                language=str(first_of(row, names["language"]) or ""),
                positive_scores=scores[0],
                negative_scores=scores[1],
            ),
        )


TEXT_FORMATS: dict[str, Callable[..., Iterator[Placed]]] = {
    "dpr": read_dpr,
    "tevatron": read_tevatron,
    "columns": read_columns,
}


def _rows_of(paths: Sequence[str], split: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for pattern in paths:
        sources = [pattern] if pattern.startswith(HUB_PREFIX) else [path for path, _ in expand_paths([pattern])]
        for source in sources:
            yield from ((row.place, row.fields()) for row in read_rows(source, split=split))


def _example(
    row: Mapping[str, Any],
    place: str,
    query_names: Sequence[str],
    id_names: Sequence[str],
    positives: Scored,
    negatives: Scored,
    random_negatives: Sequence[tuple[Document, float | None]] = (),
) -> TrainingExample:
    positive_scores, negative_scores = _scores(positives, negatives)
    return TrainingExample(
        query=_text(row, query_names, place),
        positives=tuple(document for document, _ in positives),
        negatives=tuple(document for document, _ in negatives),
        id=str(first_of(row, id_names) or ""),
        language=str(row.get("language") or ""),
        random_negatives=tuple(document for document, _ in random_negatives),
        positive_scores=positive_scores,
        negative_scores=negative_scores,
    )


def _passages(value: Any, place: str, score_name: str) -> Scored:
    """[{title, text, id, score}] or [text] to documents with their scores."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise DataError(f"expected a list of passages, found {type(value).__name__}", where=place, fix="fix the line")
    found: Scored = []
    for item in value:
        if isinstance(item, str):
            found.append((Document("", item), None))
        elif isinstance(item, dict):
            identifier = str(first_of(item, _PASSAGE_IDS) or "")
            if not identifier and item.get("text") is None:
                raise _no_field(item, ("text", "passage_id"), place, "passage")
            document = Document(identifier, str(item.get("text") or ""), str(item.get("title") or ""))
            found.append((document, item.get(score_name)))
        else:
            raise DataError(f"expected a passage, found {type(item).__name__}", where=place, fix="fix the line")
    return found


def _scores(positives: Scored, negatives: Scored) -> tuple[Scores, Scores]:
    """A teacher's scores count only if it scored every passage of the example."""
    scores = [score for _, score in [*positives, *negatives]]
    if any(score is None for score in scores):
        return (), ()
    values = tuple(float(score) for score in scores if score is not None)
    return values[: len(positives)], values[len(positives) :]


def _column_scores(
    row: Mapping[str, Any], score: Any, positives: int, negatives: int, place: str
) -> tuple[Scores, Scores]:
    """A list holds the positives' scores, then the negatives'; one number is the margin between a pair."""
    if row.get("pos_scores") is not None and row.get("neg_scores") is not None:
        score = [*row["pos_scores"], *row["neg_scores"]]
    if score is None:
        return (), ()
    if not isinstance(score, list):
        score = [score, 0.0]
    if len(score) != positives + negatives:
        raise DataError(
            f"{len(score)} scores for {positives} positives and {negatives} negatives",
            where=place,
            fix="give one score for each passage, or one margin for a pair",
        )
    values = tuple(float(value) for value in score)
    return values[:positives], values[positives:]


def _texts(value: Any) -> list[str]:
    if value is None:
        return []
    return [str(item) for item in value] if isinstance(value, list) else [str(value)]


def _text(row: Mapping[str, Any], names: Sequence[str], place: str) -> str:
    if not any(name in row for name in names):
        raise _no_field(row, names, place, "query")
    return str(first_of(row, names) or "")


def _renamed(ours: dict[str, Any], fields: Mapping[str, Any] | None) -> dict[str, Any]:
    unknown = set(fields or {}) - set(ours)
    if unknown:
        raise DataError(
            f"unknown field {', '.join(sorted(unknown))}",
            where="data.examples.fields",
            fix=f"the fields are {', '.join(ours)}",
        )
    return {**ours, **(fields or {})}


def _no_field(row: Mapping[str, Any], names: Sequence[str], place: str, what: str) -> DataError:
    return DataError(
        f"no field {' or '.join(names)}; the row has {', '.join(row)}",
        where=place,
        fix=f"name the field that holds the {what}: data.examples.fields.{what}, or choose another format",
    )
