"""Has the run collapsed? A verdict on the last logged metrics, with advice; None if it has not.

No single number shows it. An untrained XLM-R has a mean cosine of 0.99 and trains well; a raw dot product may begin
with a loss far above a random guess's. The queue is misleading too: once all texts have the same embedding, which moves
with every update, the newest key is closer to the query than any older one, so MoCo's queue accuracy is 100 % and its
loss 0. The sign of collapse is that a query no longer finds its key among the keys of its *own batch*, which were all
made at the same time.
"""

import math
from collections.abc import Mapping, Sequence

RECORDS = 5  # that must agree; as many more must come before them
SHRUNK = 0.1  # of the initial room between embeddings, at most this share is left
NO_ROOM = 1e-6  # as 1 - mean cosine
PATIENCE = 50  # records at chance, without a visible collapse, until a run counts as lost

Record = Mapping[str, float]


def collapse_advice(history: Sequence[Record]) -> str | None:
    """`history`: the metrics of the logged steps, oldest first, as the objectives of this department name them."""
    if len(history) < 2 * RECORDS:
        return None
    last = history[-RECORDS:]
    if _at_chance(last) and _shrunk(history[0], last):
        return f"the run has collapsed: {_sight(last)}. {_advice(last[-1])}"
    if len(history) >= PATIENCE and _at_chance(history[-PATIENCE:]):
        now = last[-1].get("temperature")  # not every loss has one
        rates = "learning rate" if now is None else f"learning rate or the temperature (now {now:.3g})"
        return (
            f"the run learns nothing: {_sight(history[-PATIENCE:])}. Raise the {rates}, normalise embeddings, or check "
            "that queries belong to their keys."
        )
    return None


def _at_chance(records: Sequence[Record]) -> bool:
    """Within three standard deviations of what random guessing would find."""
    chance = _mean(records, "chance")
    judged = sum(record["queries"] for record in records)
    return _mean(records, "accuracy") <= chance + 3 * math.sqrt(chance / judged)


def _shrunk(first: Record, records: Sequence[Record]) -> bool:
    return all(_room(record) < max(SHRUNK * _room(first), NO_ROOM) for record in records)


def _room(record: Record) -> float:
    return 1 - record["mean_cosine"]


def _sight(records: Sequence[Record]) -> str:
    return (
        f"over the last {len(records)} records a query found its key among those of its batch in "
        f"{_mean(records, 'accuracy'):.2%} of cases (chance {_mean(records, 'chance'):.2%}), the mean cosine of "
        f"different texts is {records[-1]['mean_cosine']:.6f} and the std of embeddings {records[-1]['query_std']:.3g}"
    )


def _advice(now: Record) -> str:
    fix = "Lower the learning rate, warm it up for longer, clip gradients at 1"
    if now.get("temperature", 1.0) < 0.01:
        fix = f"Raise the temperature ({now['temperature']:.3g}; 0.05 is usual). {fix}"
    return f"{fix}, normalise embeddings, and start again from the last good checkpoint."


def _mean(records: Sequence[Record], name: str) -> float:
    """Within the batch where an objective tells that apart from the queue."""
    return sum(record.get(f"batch_{name}", record[name]) for record in records) / len(records)
