"""From checked examples to the arrays that training maps: rows of queries and passages, drops counted by reason.

Dropped: examples without query or positive, duplicate ids. Dropped from their example: passages that are empty or not
in the collection, negatives with the text of a positive, duplicate negatives.
"""

from array import array
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
import orjson

from mcontriever.drops import Drops
from mcontriever.finetuning.examples.passage_collection import PassageCollection, id_key, text_key
from mcontriever.finetuning.examples.training_example import TrainingExample
from mcontriever.progress import track
from mcontriever.texts.documents import Document

BLOCK = 2048
NOT_FOUND = -1
Placed = tuple[str, TrainingExample]


def write_examples(
    examples: Iterable[Placed],
    folder: Path,
    *,
    collection: PassageCollection | None,
    drops: Drops,
    may_repeat_queries: bool,
    may_lack_positives: bool,
) -> int:
    """Write queries.jsonl, the arrays and, without a collection, passages.jsonl; returns the number of examples."""
    with open(folder / "queries.jsonl", "wb") as query_file, open(folder / "passages.jsonl", "wb") as passage_file:
        passages = _Referenced(collection) if collection is not None else _Carried(passage_file)
        writer = _Writer(query_file, passages, drops, may_repeat_queries, may_lack_positives)
        with track(None, "read examples", "examples") as progress:
            source = iter(examples)
            while block := list(islice(source, BLOCK)):
                writer.add(block)
                progress.advance(len(block))
    writer.save(folder)
    return len(writer.query_rows)


class _Writer:
    def __init__(
        self,
        query_file: BinaryIO,
        passages: "_Referenced | _Carried",
        drops: Drops,
        may_repeat_queries: bool,
        may_lack_positives: bool,
    ) -> None:
        self.query_file, self.passages, self.drops = query_file, passages, drops
        self.may_repeat_queries, self.may_lack_positives = may_repeat_queries, may_lack_positives
        self.query_row_of: dict[int, int] = {}
        self.query_rows = array("q")
        self.rows = {"positives": array("q"), "negatives": array("q")}
        self.scores = {"positives": array("f"), "negatives": array("f")}
        self.offsets = {"positives": array("q", [0]), "negatives": array("q", [0])}

    def add(self, block: list[Placed]) -> None:
        documents = [
            document
            for _, example in block
            for document in (*example.positives, *example.negatives, *example.random_negatives)
        ]
        found = iter(self.passages.find(documents))
        for place, example in block:
            positives, negatives = (list(islice(found, len(part))) for part in (example.positives, example.negatives))
            for _ in islice(found, len(example.random_negatives)):
                pass
            self._add(place, example, positives, negatives)

    def _add(self, place: str, example: TrainingExample, positives: "_Found", negatives: "_Found") -> None:
        if not example.query.strip():
            self.drops.count("empty query", place)
            return
        kept_positives = self._kept(place, example.positives, positives, example.positive_scores, set())
        taken = {key for _, key, _ in kept_positives}
        if not kept_positives and not self.may_lack_positives:
            self.drops.count("no positive", place)
            return
        query_row = self._query_row(place, example)
        if query_row is None:
            return
        kept_negatives = self._kept(place, example.negatives, negatives, example.negative_scores, taken)
        self.query_rows.append(query_row)
        for name, kept in (("positives", kept_positives), ("negatives", kept_negatives)):
            self.rows[name].extend(row for row, _, _ in kept)
            self.scores[name].extend(score for _, _, score in kept)
            self.offsets[name].append(len(self.rows[name]))

    def _kept(
        self,
        place: str,
        documents: tuple[Document, ...],
        found: "_Found",
        scores: tuple[float, ...],
        positives: set[int],
    ) -> list[tuple[int, int, float]]:
        """(row, text key, score) of the usable passages."""
        kept: list[tuple[int, int, float]] = []
        seen: set[int] = set()
        for index, (document, (row, key)) in enumerate(zip(documents, found, strict=True)):
            reason = self._complaint(row, key, positives, seen)
            if reason:
                self.drops.count(reason, place, document.id)
                continue
            seen.add(key)
            kept.append((row, key, scores[index] if scores else float("nan")))
        return kept

    def _complaint(self, row: int, key: int, positives: set[int], seen: set[int]) -> str | None:
        if row == NOT_FOUND:
            return self.passages.complaint
        if key == EMPTY_TEXT:
            return "empty passage"
        if key in positives:
            return "negative equal to a positive"
        return "passage twice in an example" if key in seen else None

    def _query_row(self, place: str, example: TrainingExample) -> int | None:
        next_row = len(self.query_row_of)
        identifier = example.id or f"#{next_row}"
        key = id_key(identifier)
        row = self.query_row_of.get(key)
        if row is not None and not self.may_repeat_queries:
            self.drops.count("query id twice", place, identifier)
            return None
        if row is None:
            self.query_row_of[key] = row = next_row
            record = {"_id": identifier, "text": example.query, "language": example.language}
            self.query_file.write(orjson.dumps(record) + b"\n")
        return row

    def save(self, folder: Path) -> None:
        np.save(folder / "query_rows.npy", _numbers(self.query_rows, np.int64))
        for name in ("positives", "negatives"):
            np.save(folder / f"{name}.npy", _numbers(self.rows[name], np.int64))
            np.save(folder / f"{name}_offsets.npy", _numbers(self.offsets[name], np.int64))
            scores = f"{name.removesuffix('s')}_scores.npy"
            np.save(folder / scores, _numbers(self.scores[name], np.float32))


_Found = list[tuple[int, int]]
EMPTY_TEXT = text_key("")


class _Referenced:
    """The examples refer to passages by the ids of a collection."""

    complaint = "passage id not in the collection"

    def __init__(self, collection: PassageCollection) -> None:
        self.collection = collection

    def find(self, documents: list[Document]) -> _Found:
        rows = self.collection.rows_of([document.id for document in documents])
        keys = self.collection.text_keys_N[np.maximum(rows, 0)]
        return list(zip(rows.tolist(), keys.tolist(), strict=True))


class _Carried:
    """The examples contain their passages: each is written once, with its own id or one made from its text.

    Needs about 150 bytes of memory for each distinct passage.
    """

    complaint = "passage without a text, and no collection to look its id up in"

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.row_of: dict[int, int] = {}
        self.content_keys = array("Q")

    def find(self, documents: list[Document]) -> _Found:
        return [self._find(document) for document in documents]

    def _find(self, document: Document) -> tuple[int, int]:
        if not document.text.strip():
            return (NOT_FOUND if document.id else 0), EMPTY_TEXT
        content = id_key(document.full_text)
        identifier = document.id or f"{content:016x}"
        row = self.row_of.get(id_key(identifier))
        if row is not None and self.content_keys[row] != content:
            # Some data sets number the passages of each query from 0: a second text with the id gets another id.
            identifier = f"{identifier}#{content:016x}"
            row = self.row_of.get(id_key(identifier))
        if row is None:
            row = len(self.content_keys)
            self.row_of[id_key(identifier)] = row
            self.content_keys.append(content)
            record = {"_id": identifier, "title": document.title, "text": document.text}
            self.file.write(orjson.dumps(record) + b"\n")
        return row, text_key(document.text)


def _numbers(values: array, dtype: type) -> np.ndarray:
    return np.frombuffer(values, dtype=dtype) if len(values) else np.zeros(0, dtype=dtype)
