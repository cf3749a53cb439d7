"""What the measurements of mixed pools share: their command line, the questions that they ask, and nDCG@10."""

import argparse
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mcontriever.encoder import Encoder
from mcontriever.evaluation.dev_sets import DevSet
from mcontriever.progress import setup_logging
from mcontriever.texts.documents import Query


def measure_pools(
    description: str | None, facts: Callable[[Encoder, DevSet, Sequence[Query]], dict[str, Any]], questions: int
) -> None:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--half", choices=["even", "odd"], default="odd")
    parser.add_argument("--questions", type=int, default=questions, help="of the half, at most; evenly drawn")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    setup_logging()
    encoder = Encoder.load(given.model, precision="auto")
    found = {}
    for folder in given.folders:
        pool = DevSet.load(folder)
        queries = evenly_drawn(pool.queries, given.half, given.questions)
        found[folder.name] = {"questions": len(queries), **facts(encoder, pool, queries)}
        print(folder.name, json.dumps(found[folder.name], indent=1), flush=True)
    if given.output:
        given.output.write_text(json.dumps({"model": given.model, "half": given.half, "pools": found}, indent=1) + "\n")


def evenly_drawn(queries: Iterable[Query], half: str, count: int) -> list[Query]:
    """At most so many of the even or the odd ones."""
    chosen = list(queries)[half == "odd" :: 2]
    return [chosen[place] for place in np.unique(np.linspace(0, len(chosen) - 1, count).astype(int))]


def relevant_ids(pool: DevSet, query: Query) -> set[str]:
    return {key for key, grade in pool.relevance[query.id].items() if grade > 0}


def mean_ndcg(found: Sequence[Sequence[str]], relevant: Sequence[set[str]]) -> float:
    """Of the first ten, in percent."""
    discounts = 1 / np.log2(np.arange(2, 12))
    gained = [
        sum(discount for discount, key in zip(discounts, ids, strict=False) if key in wanted)
        / discounts[: len(wanted)].sum()
        for ids, wanted in zip(found, relevant, strict=True)
    ]
    return round(100 * float(np.mean(gained)), 2)
