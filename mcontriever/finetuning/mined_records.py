"""A mined block as records in DPR's layout: question, positive_ctxs, hard_negative_ctxs.

A passage that is a negative of many queries is turned into JSON once.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson

from mcontriever.finetuning.mined_block import NO_ROW, MinedBlock, Negatives
from mcontriever.finetuning.miner import Store


def mined_records(block: MinedBlock, store: Store, *, texts: bool) -> Iterator[dict[str, Any]]:
    """`texts` False leaves titles and texts out: they are found again by the passages' ids."""
    rows = np.unique(np.concatenate([negatives.rows_Qn.ravel() for negatives in block.negatives]))
    rows = rows[rows != NO_ROW]
    shown = store.rows_shown(rows, ["id", "title", "text"] if texts else ["id"])
    beginnings = [orjson.dumps(passage)[:-1] for passage in shown]
    places = [np.searchsorted(rows, negatives.rows_Qn) for negatives in block.negatives]
    for number, question in enumerate(block.questions):
        passages = [
            passage
            for negatives, places_Qn in zip(block.negatives, places, strict=True)
            for passage in _negatives(negatives, places_Qn[number], number, beginnings)
        ]
        yield {
            "id": block.ids[number],
            "question": question,
            "language": block.languages[number],
            "positive_ctxs": _positives(block, number, texts),
            "hard_negative_ctxs": orjson.Fragment(b"[" + b",".join(passages) + b"]"),
        }


def _negatives(negatives: Negatives, places_n: np.ndarray, number: int, beginnings: list[bytes]) -> Iterator[bytes]:
    ending = b'"source":' + orjson.dumps(negatives.source)
    for row, place, rank, score, teacher in zip(
        negatives.rows_Qn[number].tolist(),
        places_n.tolist(),
        negatives.ranks_Qn[number].tolist(),
        negatives.scores_Qn[number].tolist(),
        negatives.teacher_Qn[number].tolist(),
        strict=True,
    ):
        if row != NO_ROW:
            opinion = b"" if teacher != teacher else b',"teacher_score":%.7g' % teacher
            yield b'%b,"score":%.7g,"rank":%d,%b%b}' % (beginnings[place], score, rank, ending, opinion)


def _positives(block: MinedBlock, number: int, texts: bool) -> list[dict[str, Any]]:
    """With the score of the first search, which is null where that had none."""
    scores_P = next(iter(block.positive_scores.values()))[number].tolist()
    teacher_QP = block.positive_teacher_QP
    passages = []
    for column, document in enumerate(block.positives[number]):
        passage: dict[str, Any] = {"id": document.id}
        if texts:
            passage |= {"title": document.title, "text": document.text}
        passage["score"] = scores_P[column]
        if teacher_QP is not None:
            passage["teacher_score"] = float(teacher_QP[number, column])
        passages.append(passage)
    return passages
