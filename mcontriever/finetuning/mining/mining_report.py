"""The report on mined negatives: counts, ranks, scores, and ten examples to read before training on them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mcontriever.finetuning.mining.mining_statistics import RANK_ENDS, PartStatistics, rank_range

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
SHOWN_NEGATIVES, SHOWN_CHARACTERS = 3, 220


def mining_report(total: PartStatistics, made_by: Mapping[str, Any], examples: Sequence[Mapping[str, Any]]) -> str:
    """Markdown."""
    return "\n".join(
        [
            "# Mined hard negatives",
            "",
            f"{total.negatives:,} negatives for {total.examples:,} examples; {total.short:,} times a search had fewer "
            "than requested."
            + (f" Left out because no passage surely answers: {total.unanswered:,}." * bool(total.unanswered)),
            "",
            *(f"- {name.replace('_', ' ')}: {value}" for name, value in made_by.items() if value not in (None, {})),
            "",
            "## Candidates",
            "",
            *_table(("skipped because", "candidates"), (+total.passed_over).most_common()),
            *_table(("taken from", "negatives"), total.sources.most_common()),
            "## Ranks",
            "",
            *_table(
                ("rank", "positives", "negatives"),
                [
                    (name, total.positive_ranks[name], total.negative_ranks[name])
                    for name in dict.fromkeys(
                        [*(rank_range(end) for end in RANK_ENDS), rank_range(10**9), rank_range(0)]
                    )
                    if total.positive_ranks[name] or total.negative_ranks[name]
                ],
            ),
            "## Scores",
            "",
            *_table(
                ("source", "of", *(f"{share:.0%}" for share in QUANTILES)),
                [
                    (source, side, *(f"{score:.4g}" for score in np.quantile(scores, QUANTILES)))
                    for side, by_source in (("positives", total.positive_scores), ("negatives", total.negative_scores))
                    for source, scores in by_source.items()
                    if scores
                ],
            ),
            "## Ten examples",
            "",
            *(line for example in examples for line in _example(example)),
        ]
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    lines = [
        header,
        ["---"] * len(header),
        *([f"{cell:,}" if isinstance(cell, int) else cell for cell in row] for row in rows),
    ]
    return [*(f"| {' | '.join(line)} |" for line in lines), ""]


def _example(example: Mapping[str, Any]) -> list[str]:
    passages = [("+", example["positive_ctxs"][:1]), ("-", example["hard_negative_ctxs"][:SHOWN_NEGATIVES])]
    return [
        f"**{example['question']}**",
        "",
        *(f"- {sign} {_passage(passage)}" for sign, some in passages for passage in some),
        "",
    ]


def _passage(passage: Mapping[str, Any]) -> str:
    place = f"rank {passage['rank']}, " if "rank" in passage else ""
    score = f"{passage['score']:.4g}" if passage.get("score") is not None else "no score"
    text = f"{passage.get('title', '')} {passage.get('text', passage['id'])}".strip()
    return f"({place}{score}) {' '.join(text.split())[:SHOWN_CHARACTERS]}"
