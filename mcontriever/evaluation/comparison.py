"""`--compare A B`: what is better or worse in B than in A, by language, and whether it is significant."""

from dataclasses import dataclass

import numpy as np

from mcontriever.errors import ConfigError, DataError
from mcontriever.evaluation.language_names import language_name
from mcontriever.evaluation.results import Benchmark, SubsetScores
from mcontriever.evaluation.score_report import paired_scores
from mcontriever.evaluation.score_table import metric_name
from mcontriever.evaluation.significance import PairedTest, Summary, holm, paired_test, summarise


@dataclass(frozen=True)
class Comparison:
    """`tests` by (task, language). `not_compared` gives a reason for every other pair of results."""

    name_a: str
    name_b: str
    metric: str
    tests: dict[tuple[str, str], PairedTest]
    summary: Summary
    not_compared: dict[str, str]


def compare(a: str, b: str, metric: str | None = None) -> Comparison:
    """Each side is a benchmark's folder or scores.json, followed by `:MODEL` if it holds several models."""
    (benchmark_a, model_a), (benchmark_b, model_b) = _side(a, b), _side(b, a)
    subsets_a = {(s.task, s.subset): s for s in benchmark_a.subsets(model_a)}
    subsets_b = {(s.task, s.subset): s for s in benchmark_b.subsets(model_b)}
    metric = metric or benchmark_a.facts["metrics"][0]
    tests: dict[tuple[str, str], PairedTest] = {}
    differences: dict[tuple[str, str], np.ndarray] = {}
    not_compared: dict[str, str] = {}
    for key in sorted(subsets_a.keys() | subsets_b.keys()):
        reason = _unlike(subsets_a.get(key), subsets_b.get(key), metric)
        if reason:
            not_compared["/".join(key)] = reason
            continue
        one, other = subsets_a[key], subsets_b[key]
        scores_a, scores_b = paired_scores(one, other, metric)
        tests[one.task, one.language] = paired_test(scores_a, scores_b)
        differences[one.task, one.language] = scores_b - scores_a
    if not tests:
        reasons = "; ".join(f"{key}: {reason}" for key, reason in not_compared.items()) or "neither has scores by query"
        fix = "compare two results on the same tasks and data"
        raise DataError(f"the two results have no task in common: {reasons}", where=f"{a} and {b}", fix=fix)
    names = (model_a, model_b) if model_a != model_b else (f"{model_a} (A)", f"{model_b} (B)")
    return Comparison(*names, metric, tests, summarise(tests, differences), not_compared)


def to_markdown(comparison: Comparison) -> str:
    c, s = comparison, comparison.summary
    certain = dict(zip(c.tests, holm([test.p for test in c.tests.values()]), strict=True))
    lines = [
        f"# {c.name_a} → {c.name_b}: {metric_name(c.metric)}, percent",
        "",
        f"| task | language | queries | {c.name_a} | {c.name_b} | difference | 95 % of resamples | p | verdict |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for (task, language), t in c.tests.items():
        verdict = ("better" if t.difference > 0 else "worse") if certain[task, language] else "within noise"
        lines.append(f"| {task} | {language_name(language)} | {t.cells()} | {verdict} |")
    lines += [
        "",
        f"Over {s.groups} rows of equal weight: {100 * s.difference:+.1f} ({100 * s.low:+.1f} to {100 * s.high:+.1f}). "
        f"Better on {s.better} ({s.significantly_better} of them significantly), worse on {s.worse} "
        f"({s.significantly_worse} significantly): randomisation test at 5 % for all rows together (Holm's method).",
    ]
    if c.not_compared:
        lines += ["", "Not compared:", *(f"- {name}: {reason}" for name, reason in c.not_compared.items())]
    return "\n".join(lines)


def _side(text: str, other: str) -> tuple[Benchmark, str]:
    path, _, model = text.partition(":")
    benchmark = Benchmark.load(path)
    models = list(benchmark.scores)
    if model and model not in models:
        raise ConfigError(f"no model {model!r} in {path}", fix=f"it holds {', '.join(models)}")
    if model or len(models) == 1:
        return benchmark, model or models[0]
    shared = [name for name in models if name in Benchmark.load(other.partition(":")[0]).scores]
    if len(shared) == 1:
        return benchmark, shared[0]
    fix = f"say which: {path}:{models[0]}, ... ({', '.join(models)})"
    raise ConfigError(f"{path} holds {len(models)} models", fix=fix)


def _unlike(a: SubsetScores | None, b: SubsetScores | None, metric: str) -> str | None:
    """Why two subsets cannot be compared query by query, or None."""
    if a is None or b is None:
        return "only in A" if b is None else "only in B"
    if a.data_revision != b.data_revision:
        return f"the data differ: revision {a.data_revision[:12]} in A, {b.data_revision[:12]} in B"
    for name, side in (("A", a), ("B", b)):
        if metric not in side.values:
            return f"no {metric} in {name}"
    if set(a.queries) != set(b.queries):
        return f"the queries differ: {len(a.queries)} in A, {len(b.queries)} in B"
    return None
