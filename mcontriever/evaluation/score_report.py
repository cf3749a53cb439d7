"""scores.md and its pictures: tables beside published figures, languages, noise, and how to repeat the run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mcontriever.disk import write_bytes, write_json
from mcontriever.evaluation.charts import plot_language_bias, plot_language_pairs, plot_scores
from mcontriever.evaluation.language_bias import LanguageCounts
from mcontriever.evaluation.language_names import language_name
from mcontriever.evaluation.language_pairs import pair_scores, pair_table, worst_pair
from mcontriever.evaluation.published import PublishedSystem
from mcontriever.evaluation.results import Benchmark, SubsetScores, file_name
from mcontriever.evaluation.score_table import ScoreTable, metric_name, score_table, to_json, to_markdown
from mcontriever.evaluation.significance import paired_test

Biases = dict[str, dict[str, LanguageCounts]]


def write_report(
    benchmark: Benchmark,
    *,
    title: str,
    metrics: Sequence[str],
    published: Sequence[PublishedSystem],
    left_out: Sequence[str] = (),
    highlighted: Sequence[str] = (),
    biases: Biases | None = None,
) -> str:
    """Write scores.md, table.json, scores.png and a heat map for each mixed pool; returns the main table."""
    folder = benchmark.folder
    tables = [score_table(benchmark.scores, published, metric, left_out) for metric in metrics]
    plot_scores(tables[0], folder / "scores.png", f"{title}, {metric_name(metrics[0])}", highlighted)
    write_json(folder / "table.json", [to_json(table) for table in tables])
    main = to_markdown(tables[0])
    parts = [
        f"# Benchmark: {title}",
        benchmark.facts.get("description", ""),
        f"## {metric_name(metrics[0])}, percent",
        main,
        _notes(tables[0], left_out),
        "![scores](scores.png)",
        *_language_section(folder, biases or {}),
        *_pair_section(benchmark, metrics[0]),
        *_noise_section(benchmark, metrics[0]),
    ]
    for table in tables[1:]:
        parts += [f"## {metric_name(table.metric)}, percent", to_markdown(table)]
    parts += [*_facts_section(benchmark.facts)]
    write_bytes(folder / "scores.md", ("\n\n".join(part for part in parts if part) + "\n").encode())
    return main


def _notes(table: ScoreTable, left_out: Sequence[str]) -> str:
    notes = []
    if set(left_out) & {row.task for row in table.rows}:
        notes.append(f"{', '.join(left_out)} is in-domain for many of these systems and not part of any average.")
    if any(not column.measured for column in table.columns):
        notes.append("Names in *italics* are published figures, not measured here.")
    return " ".join(notes)


def _language_section(folder: Path, biases: Biases) -> list[str]:
    if not biases:
        return []
    parts = [
        "## Languages of the hits",
        "The share of the query's language in the top hits, against its share among the relevant documents: more is "
        "bias towards the query's language, less is bias against it.",
    ]
    for task, by_model in biases.items():
        parts.append(_bias_table(task, by_model))
        for model, counts in by_model.items():
            name = f"languages-{file_name(task)}-{file_name(model)}.png"
            plot_language_bias(counts, folder / name, f"{task}, {model}: whose documents are found?")
            parts.append(f"![{task}, {model}]({name})")
    return parts


def _bias_table(task: str, by_model: dict[str, LanguageCounts]) -> str:
    first = next(iter(by_model.values()))
    head = f"| {task}: query in | relevant | " + " | ".join(f"{model}, top {first.k}" for model in by_model) + " |"
    lines = [head, "| --- | ---: |" + " ---: |" * len(by_model)]
    for language in sorted(first.top):
        shares = [f"{100 * counts.same_language_share(language)[0]:.0f} %" for counts in by_model.values()]
        relevant = f"{100 * first.same_language_share(language)[1]:.0f} %"
        lines.append(f"| {language_name(language)} | {relevant} | " + " | ".join(shares) + " |")
    return "\n".join(lines)


def _pair_section(benchmark: Benchmark, metric: str) -> list[str]:
    """By the languages of question and answer, where every answer is in one language of a mixed pool."""
    parts = []
    for model in benchmark.scores:
        for task, scores in pair_scores(benchmark.subsets(model), metric).items():
            name = f"pairs-{file_name(task)}-{file_name(model)}.png"
            plot_language_pairs(scores, benchmark.folder / name, f"{task}, {model}: {metric_name(metric)}")
            parts += [f"{task}, {model}: {worst_pair(scores)}", pair_table(scores), f"![{task}, {model}]({name})"]
    return [f"## {metric_name(metric)} by the languages of question and answer, percent", *parts] if parts else []


def _noise_section(benchmark: Benchmark, metric: str) -> list[str]:
    """Every model against the first, row by row, where both answered the same queries."""
    first, *others = benchmark.scores
    theirs = {(subset.task, subset.subset): subset for subset in benchmark.subsets(first)} if others else {}
    found = []
    for number, model in enumerate(others):
        for subset in benchmark.subsets(model):
            base = theirs.get((subset.task, subset.subset))
            if base is not None and all(metric in s.values for s in (base, subset)) and _same_queries(base, subset):
                test = paired_test(*paired_scores(base, subset, metric))
                row = f"| {subset.task} | {language_name(subset.language)} | {model} | {test.cells()} |"
                found.append((subset.task, subset.language, number, row))
    if not found:
        return []
    head = f"| task | language | model | queries | {first} | model | difference | 95 % of resamples | p |"
    rows = [row for *_, row in sorted(found)]
    return [
        f"## Is the difference to {first} significant?",
        f"{metric_name(metric)}, paired over queries: a two-sided randomisation test with 10,000 sign flips, and the "
        "interval of 95 % of 10,000 bootstrap samples of the queries.",
        "\n".join([head, "| --- | --- | --- |" + " ---: |" * 6, *rows]),
    ]


def paired_scores(a: SubsetScores, b: SubsetScores, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Both models' scores of the same queries, in the order of a."""
    scores_b = b.by_query(metric)
    return np.array(a.values[metric]), np.array([scores_b[query] for query in a.queries])


def _same_queries(a: SubsetScores, b: SubsetScores) -> bool:
    return set(a.queries) == set(b.queries)


def _facts_section(facts: dict[str, Any]) -> list[str]:
    models = ["| model | revision | what it is |", "| --- | --- | --- |"]
    for label, about in facts["models"].items():
        details = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in about.items() if name != "revision")
        models.append(f"| {label} | `{about['revision'][:16]}` | {details} |")
    tasks = [
        "| task | data revision | split | subsets | queries | omitted or odd |",
        "| --- | --- | --- | ---: | ---: | --- |",
    ]
    for name, about in facts["tasks"].items():
        odd = "; ".join(f"{count:,} {what}" for what, count in about["counts"].items() if count)
        counted = f"{about['split']} | {about['subsets']} | {about['queries']:,}"
        tasks.append(f"| {name} | `{about['revision'][:16]}` | {counted} | {odd} |")
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    return [
        "## To repeat it",
        f"```\n{facts['command']}\n```",
        f"{facts['started']}, {facts['seconds']:,.0f} s. {versions}. {facts['machine']}.",
        "\n".join(models),
        "\n".join(tasks),
        "MTEB's own result files are in `mteb/`, the scores of single queries in `queries/`.",
    ]
