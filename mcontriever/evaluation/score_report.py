"""scores.md and its pictures: tables beside the published figures, the languages, the noise, and how to repeat it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mcontriever.disk import write_bytes, write_json
from mcontriever.evaluation.charts import plot_language_bias, plot_scores
from mcontriever.evaluation.language_bias import LanguageCounts
from mcontriever.evaluation.language_names import language_name
from mcontriever.evaluation.published import PublishedSystem
from mcontriever.evaluation.results import Benchmark, SubsetScores, file_name
from mcontriever.evaluation.score_table import ScoreTable, metric_name, score_table, to_json, to_markdown
from mcontriever.evaluation.significance import PairedTest, paired_test

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
    """Write scores.md, table.json, scores.png and a heat map per mixed pool; returns the main table."""
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
        notes.append(f"{', '.join(left_out)} is in-domain for many of these systems and counts for no average.")
    if any(not column.measured for column in table.columns):
        notes.append("Names in *italics* are published figures, not measured here.")
    return " ".join(notes)


def _language_section(folder: Path, biases: Biases) -> list[str]:
    if not biases:
        return []
    parts = [
        "## Languages of the hits",
        "How often the query's own language fills the top hits, against how often the relevant documents have it: more "
        "is bias towards the own language, less is bias against it.",
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


def _noise_section(benchmark: Benchmark, metric: str) -> list[str]:
    """Every model against the first, row by row."""
    models = list(benchmark.scores)
    if len(models) < 2:
        return []
    stored = {model: {(s.task, s.subset): s for s in benchmark.subsets(model)} for model in models}
    lines = []
    for other in models[1:]:
        for key in stored[models[0]].keys() & stored[other].keys():
            test = subset_test(stored[models[0]][key], stored[other][key], metric)
            if test is not None:
                lines.append((key[0], stored[other][key].language, other, test))
    if not lines:
        return []
    head = f"| task | language | model | queries | {models[0]} | model | difference | 95 % of resamples | p |"
    rows = [
        f"| {task} | {language_name(language)} | {model} | {t.queries} | {100 * t.mean_a:.1f} | {100 * t.mean_b:.1f} | "
        f"{100 * t.difference:+.1f} | {100 * t.low:+.1f} to {100 * t.high:+.1f} | {t.p:.4f} |"
        for task, language, model, t in sorted(lines, key=lambda line: (line[0], line[1], models.index(line[2])))
    ]
    return [
        f"## Is the difference to {models[0]} more than noise?",
        f"{metric_name(metric)}, paired over queries: a two-sided randomisation test with 10,000 sign flips, and the "
        "interval that holds 95 % of 10,000 bootstrap samples of the queries.",
        "\n".join([head, "| --- | --- | --- |" + " ---: |" * 6, *rows]),
    ]


def subset_test(a: SubsetScores, b: SubsetScores, metric: str) -> PairedTest | None:
    """None where the two were not measured on the same queries with this metric."""
    if metric not in a.values or metric not in b.values or set(a.queries) != set(b.queries):
        return None
    scores_b = b.by_query(metric)
    return paired_test(np.array(a.values[metric]), np.array([scores_b[query] for query in a.queries]))


def _facts_section(facts: dict[str, Any]) -> list[str]:
    models = ["| model | revision | what it is |", "| --- | --- | --- |"]
    for label, about in facts["models"].items():
        details = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in about.items() if name != "revision")
        models.append(f"| {label} | `{about['revision'][:16]}` | {details} |")
    tasks = [
        "| task | data revision | split | subsets | queries | left out or odd |",
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
        "MTEB's own result files lie in `mteb/`, the scores of single queries in `queries/`.",
    ]
