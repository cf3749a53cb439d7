"""Scores by the languages of question and answer: which pair of languages a search serves worst."""

from collections.abc import Sequence

import numpy as np

from mcontriever.evaluation.language_names import language_name
from mcontriever.evaluation.results import SubsetScores

PairScores = dict[tuple[str, str], float]


def pair_scores(subsets: Sequence[SubsetScores], metric: str) -> dict[str, PairScores]:
    """The mean of each (question's language, answer's language), by task."""
    values: dict[str, dict[tuple[str, str], list[float]]] = {}
    for subset in subsets:
        if subset.answer_languages is not None and metric in subset.values:
            asked = subset.language.split("->")[0]
            for answer, value in zip(subset.answer_languages, subset.values[metric], strict=True):
                values.setdefault(subset.task, {}).setdefault((asked, answer), []).append(value)
    return {task: {pair: float(np.mean(some)) for pair, some in pairs.items()} for task, pairs in values.items()}


def languages_of_pairs(scores: PairScores) -> tuple[list[str], list[str]]:
    """The languages of questions, and those of answers."""
    return sorted({asked for asked, _ in scores}), sorted({answer for _, answer in scores})


def worst_pair(scores: PairScores) -> str:
    asked, answer = min(scores, key=lambda pair: (scores[pair], pair))
    value = 100 * scores[asked, answer]
    return f"the worst pair is {language_name(asked)} to {language_name(answer)}, {value:.1f}."


def pair_table(scores: PairScores) -> str:
    asked, answers = languages_of_pairs(scores)
    lines = ["| question in | " + " | ".join(map(language_name, answers)) + " |", "| --- |" + " ---: |" * len(answers)]
    for one in asked:
        cells = [f"{100 * scores[one, other]:.1f}" if (one, other) in scores else "" for other in answers]
        lines.append(f"| {language_name(one)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
