"""How sure a result's means are: 95 % intervals over the questions of each set, by bootstrap.

    python benchmarks/quality/intervals.py RESULT [RESULT ...] --model mini

RESULT is the output of `mcontriever benchmark`, which keeps the scores of each question.
"""

import argparse
from pathlib import Path

import numpy as np

from mcontriever.evaluation.results import Benchmark
from mcontriever.evaluation.significance import mean_interval


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="+")
    parser.add_argument("--model", required=True, help="as the result names it")
    parser.add_argument("--metric", default="ndcg_at_10")
    given = parser.parse_args()
    print(f"| set | questions | {given.metric} of {given.model} | 95 % |\n| --- | ---: | ---: | ---: |")
    for result in given.results:
        for subset in Benchmark.load(result).subsets(given.model):
            scores = 100 * np.array(list(subset.by_query(given.metric).values()))
            low, high = mean_interval(scores)
            print(
                f"| {subset.task} {subset.language} | {len(scores):,} | {scores.mean():.1f} | {low:.1f} to {high:.1f} |"
            )


if __name__ == "__main__":
    main()
