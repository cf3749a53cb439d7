"""What written questions, mining, ANCE, PAIR, TAS-B, late interaction and weighted pairs change, from one encoder.

    python benchmarks/quality/finetuning_gains.py DATA nano runs/gains-nano
    python benchmarks/quality/finetuning_gains.py DATA runs/real/changes/long/model runs/gains-real --writer WRITER

The encoder is nano, mini or a folder. DATA holds supervised/en.jsonl.gz and eval/xquad-{en,ar}-en. Questions about
tales are learned, tales that no row saw are asked about. Every row starts from the encoder and reads equally many
passages in equally many steps. Even questions choose the learning rate; the table is of odd ones, and also in
WORK/gains.json. WRITER, made by question_writer.py, writes the questions of GenQ and docT5query. What is done is not
done again.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gains_data import SETS, write_data
from gains_rows import DOC_T5_QUERY, ROWS, WRITTEN, expanded, in_batch
from gains_work import Work

from mcontriever.evaluation.results import Benchmark
from mcontriever.evaluation.significance import paired_test

METRIC = "ndcg_at_10"
Row = dict[str, Any]
Values = dict[str, np.ndarray]  # of each set, question by question
# The row that each is compared with: what it adds to.
BESIDE = {
    "in-batch": "start",
    "genq": "in-batch",
    "genq, asked tales": "start",
    "random": "in-batch",
    "mined": "random",
    "ance": "mined",
    "pair": "mined",
    "late-interaction": "mined",
    "margins": "mined",
    "tas-b": "mined",
    "raw, one pair": "start",
    "raw, four pairs": "raw, one pair",
    "raw, four weighted pairs": "raw, four pairs",
    "docT5query": "bm25",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("encoder", help="nano, mini or a folder")
    parser.add_argument("work", type=Path)
    parser.add_argument("--writer", type=Path, help="without it there are no rows of written questions")
    parser.add_argument("--rows", nargs="*", choices=list(ROWS))
    parser.add_argument("--sets", nargs="*", choices=SETS, default=SETS)
    parser.add_argument("--rate", type=float, help="the learning rate, where none is to be chosen")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    given = parser.parse_args()
    wanted = given.rows or [row for row in ROWS if given.writer or row not in WRITTEN]
    if not given.writer and set(wanted) & set(WRITTEN):
        parser.error(f"{WRITTEN} need --writer")
    work = Work(given.encoder, given.work.resolve(), given.writer)
    write_data(given.data, work.folder)
    rate = given.rate or chosen_rate(work)
    values = {row: values_of(work, row, given.sets, rate, given.seeds) for row in wanted}
    print(f"{given.encoder}, learning rate {rate}, seeds {given.seeds}\n")
    rows = compared(given.sets, values)
    print("\n".join(table(given.sets, rows)))
    command = " ".join(["python", "benchmarks/quality/finetuning_gains.py", "DATA", *sys.argv[2:]])
    facts = {
        "command": command,
        "learning_rate": rate,
        "steps": work.kind.steps,
        "passages": work.kind.passages,
        "rows": rows,
    }
    (work.folder / "gains.json").write_text(json.dumps(facts, indent=2) + "\n")


def values_of(work: Work, row: str, sets: Sequence[str], rate: float, seeds: Sequence[int]) -> list[Values]:
    """Each seed's values on the odd questions."""
    models = [ROWS[row](work, rate, seed) for seed in seeds]
    names = [f"{name}-odd" for name in sets]
    tasks = [expanded(work, name) if row == DOC_T5_QUERY else work.folder / name for name in names]
    folder = work.folder / "scores" / row.replace(", ", "-").replace(" ", "-")
    work.run("benchmark", "--model", *dict.fromkeys(models), "--tasks", *tasks, "--output", folder)
    scores = Benchmark.load(folder)
    return [by_question(scores, model) for model in models]


def chosen_rate(work: Work) -> float:
    """The better of two by in-batch training, on even questions about tales."""
    models = {rate: in_batch(work, rate, 0, f"rate-{rate}") for rate in work.kind.rates}
    found, task = work.folder / "rates", work.folder / "tales-even"
    work.run("benchmark", "--model", *models.values(), "--tasks", task, "--output", found)
    scores = Benchmark.load(found)
    means = {rate: by_question(scores, model)["tales"].mean() for rate, model in models.items()}
    print(f"in-batch on even questions: {means}")
    return max(means, key=lambda rate: means[rate])


def by_question(scores: Benchmark, model: Path) -> Values:
    """Each set's values, question by question, in one order for all models."""
    label = max((label for label in scores.scores if str(model).endswith(label)), key=len)  # the end of its path
    return {
        subset.task.rsplit("-", 1)[0]: np.array([value for _, value in sorted(subset.by_query(METRIC).items())])
        for subset in scores.subsets(label)
    }


def compared(sets: Sequence[str], rows: dict[str, list[Values]]) -> dict[str, Row]:
    """Of each row and set, in percent, the mean over seeds and the difference to the other row, with its interval."""
    found: dict[str, Row] = {}
    for row, seeds in rows.items():
        other = BESIDE.get(row)
        found[row] = {"beside": other}
        for name in sets:
            values = mean(seeds, name)
            found[row][name] = {"ndcg_at_10": percent(values.mean())}
            if other in rows:
                test = paired_test(mean(rows[other], name), values)
                differences = {"difference": test.difference, "low": test.low, "high": test.high}
                found[row][name] |= {key: percent(value) for key, value in differences.items()} | {
                    "p": round(test.p, 4)
                }
    return found


def mean(seeds: Sequence[Values], name: str) -> np.ndarray:
    return np.mean([values[name] for values in seeds], axis=0)


def percent(value: float) -> float:
    return round(100 * float(value), 2)


def table(sets: Sequence[str], rows: dict[str, Row]) -> Iterator[str]:
    """With 95 % of bootstrap samples of the questions."""
    yield "| row | beside | " + " | ".join(sets) + " |"
    yield "| --- | --- |" + " --- |" * len(sets)
    for name, row in rows.items():
        yield f"| {name} | {row['beside'] or ''} | " + " | ".join(cell(row[one]) for one in sets) + " |"


def cell(found: dict[str, float]) -> str:
    if "difference" not in found:
        return f"{found['ndcg_at_10']:.1f}"
    interval = f"{found['low']:+.1f} to {found['high']:+.1f}"
    return f"{found['ndcg_at_10']:.1f} ({found['difference']:+.1f}; {interval})"


if __name__ == "__main__":
    main()
