"""A mined block as records in DPR's layout: question, positive_ctxs, hard_negative_ctxs.

A passage that is a negative of many queries is turned into JSON once.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson

from mcontriever.finetuning.mining.mined_block import NO_ROW, MinedBlock, TakenPassages
from mcontriever.finetuning.mining.miner import Store


def mined_records(block: MinedBlock, store: Store, *, texts: bool) -> Iterator[dict[str, Any]]:
    """`texts` False omits titles and texts, which the passages' ids find again."""
    taken = [*block.negatives, *block.pseudo_positives]
    rows = np.unique(np.concatenate([passages.rows_Qn.ravel() for passages in taken]))
    rows = rows[rows != NO_ROW]
    columns = ["id", "title", "text"] if texts else ["id"]
    beginnings = [orjson.dumps(passage)[:-1] + b',"score":' for passage in store.rows_shown(rows, columns)]
    makers = [_PassagesAsJson(negatives, rows, beginnings) for negatives in block.negatives]
    of_pseudo = [_PassagesAsJson(positives, rows, beginnings) for positives in block.pseudo_positives]
    is_answered_Q = block.is_answered_Q
    for number, question in enumerate(block.questions):
        if not is_answered_Q[number]:
            continue
        passages = b"".join(maker.of_query(number) for maker in makers)
        pseudo = b"".join(maker.of_query(number) for maker in of_pseudo)
        yield {
            "id": block.ids[number],
            "question": question,
            "language": block.languages[number],
            "positive_ctxs": orjson.Fragment(b"[" + pseudo[:-1] + b"]") if pseudo else _positives(block, number, texts),
            "hard_negative_ctxs": orjson.Fragment(b"[" + passages[:-1] + b"]"),
        }


class _PassagesAsJson:
    """There are dozens for each query, so everything possible is made once for the block."""

    def __init__(self, negatives: TakenPassages, rows: np.ndarray, beginnings: list[bytes]) -> None:
        taken_Qn = negatives.rows_Qn != NO_ROW
        self.ends_Q = [0, *np.cumsum(taken_Qn.sum(axis=1)).tolist()]
        ranks, teacher = negatives.ranks_Qn[taken_Qn], negatives.teacher_Qn[taken_Qn].tolist()
        source = orjson.dumps(negatives.source)
        endings = [b',"rank":%d,"source":%b' % (rank, source) for rank in range(int(ranks.max(initial=0)) + 1)]
        self.passages = [b""] * (4 * len(ranks))
        self.passages[0::4] = [
            beginnings[place] for place in np.searchsorted(rows, negatives.rows_Qn[taken_Qn]).tolist()
        ]
        self.passages[1::4] = _as_json(negatives.scores_Qn[taken_Qn])
        self.passages[2::4] = [endings[rank] for rank in ranks.tolist()]
        self.passages[3::4] = [b"}," if value != value else b',"teacher_score":%.7g},' % value for value in teacher]

    def of_query(self, number: int) -> bytes:
        """Each followed by a comma."""
        return b"".join(self.passages[4 * self.ends_Q[number] : 4 * self.ends_Q[number + 1]])


def _as_json(numbers: np.ndarray) -> list[bytes]:
    """The shortest digits that give the same float32."""
    text = orjson.dumps(np.ascontiguousarray(numbers, dtype=np.float32), option=orjson.OPT_SERIALIZE_NUMPY)
    return text[1:-1].split(b",") if len(numbers) else []


def _positives(block: MinedBlock, number: int, texts: bool) -> list[dict[str, Any]]:
    """With the score of the first search, or null if it has none."""
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
