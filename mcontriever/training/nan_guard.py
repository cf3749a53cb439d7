"""Stops a run before a gradient that is not finite reaches the weights, and writes the batch to a file."""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch

from mcontriever import ranks
from mcontriever.disk import write_json
from mcontriever.errors import RunError
from mcontriever.tokens import PackedBatch

SHOWN_CHARACTERS = 300


def stop_on_nan(
    run: Path, step: int, batches: Sequence[Any], samples: Sequence[Any], losses: Sequence[float], tokenizer: Any
) -> NoReturn:
    """Collective. `batches`, `samples` and `losses` are this rank's micro steps of the update that was not applied."""
    suspects = [number for number, loss in enumerate(losses) if not math.isfinite(loss)]
    mine = {
        "rank": ranks.rank(),
        "losses": [str(loss) for loss in losses],
        "samples": [numbers.tolist() for numbers in samples],
        "texts": [texts_of(batches[number], tokenizer) for number in suspects or range(len(batches))],
    }
    everyone: list[Any] = [None] * ranks.world_size()
    torch.distributed.all_gather_object(everyone, mine)
    place = run / f"not-finite-step-{step:08}.json"
    if ranks.is_main():
        write_json(place, {"step": step, "ranks": everyone})
    where = [f"rank {one['rank']}" for one in everyone if any(not math.isfinite(float(x)) for x in one["losses"])]
    raise RunError(
        f"the {'loss of ' + ', '.join(where) if where else 'gradient'} is not finite at step {step}; "
        "the update was not applied and the last checkpoint is untouched",
        where=place,
        fix="look at the texts in that file; if they are correct, lower the learning rate, clip gradients, or raise "
        "the temperature, and start a new run",
    )


def texts_of(batch: Any, tokenizer: Any) -> dict[str, list[str]]:
    """The first characters of all rows of a batch, by side (queries, keys, ...)."""
    sides = {field.name: getattr(batch, field.name) for field in dataclasses.fields(batch)}
    return {name: _rows(side, tokenizer) for name, side in sides.items() if isinstance(side, PackedBatch)}


def _rows(side: PackedBatch, tokenizer: Any) -> list[str]:
    offsets, tokens = side.offsets.tolist(), side.token_ids_T.tolist()
    rows = [tokens[start:stop] for start, stop in itertools.pairwise(offsets)]
    return [tokenizer.decode(row, skip_special_tokens=True)[:SHOWN_CHARACTERS] for row in rows]
