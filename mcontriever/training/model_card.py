"""The README of an exported model: what it is, what it was trained on, with what settings, and its scores."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mcontriever.encoder.card_usage import usage
from mcontriever.training.metrics_log import METRICS, SCORES, flat_numbers, read_log

CURVE_POINTS = 8
CURVES = ("loss", "accuracy", "alignment", "uniformity", "query_std", "mean_cosine")


def model_card(
    *, name: str, spec: Mapping[str, Any], data: Mapping[str, Any], config_text: str, run: Path, step: int, samples: int
) -> str:
    """Markdown with the front matter that the hub and sentence-transformers read."""
    logged = [line for line in read_log(run / METRICS) if line["step"] <= step]
    scored = [line for line in read_log(run / SCORES) if line["step"] <= step]
    parts = [
        _front_matter(data.get("languages", [])),
        f"# {name}\n\nA text encoder for retrieval in any language from any language, trained with mcontriever "
        f"for {step:,} steps on {samples:,} samples.",
        usage(spec),
        "## Encoder\n\n" + _table(spec),
        "## Data\n\n" + _table(data),
        _curves(logged),
        _scores(scored),
        f"## Configuration\n\nAlso in `training.yaml`.\n\n```yaml\n{config_text}```",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front_matter(languages: list[str]) -> str:
    known = sorted({language.split("-")[0] for language in languages})
    shown = "".join(f"- {language}\n" for language in known)
    head = f"language:\n{shown}" if known else ""
    tags = "- sentence-transformers\n- feature-extraction\n- retrieval\n- multilingual\n"
    return f"---\n{head}library_name: sentence-transformers\npipeline_tag: sentence-similarity\ntags:\n{tags}---"


def _table(values: Mapping[str, Any]) -> str:
    rows = [f"| {name.replace('_', ' ')} | {_shown(value)} |" for name, value in values.items()]
    return "\n".join(["| | |", "| --- | --- |", *rows])


def _curves(logged: list[dict[str, Any]]) -> str:
    names = [name for name in CURVES if logged and name in logged[-1]]
    if not names:
        return ""
    every = max(1, len(logged) // CURVE_POINTS)
    points = [*logged[every - 1 : -1 : every], logged[-1]]
    head = f"| step | {' | '.join(names)} |\n| ---: |{' ---: |' * len(names)}"
    rows = [f"| {line['step']:,} | {' | '.join(_shown(line.get(name)) for name in names)} |" for line in points]
    return "## Curves\n\n" + "\n".join([head, *rows])


def _scores(scored: list[dict[str, Any]]) -> str:
    if not scored:
        return ""
    first, last = dict(flat_numbers(scored[0]["scores"])), dict(flat_numbers(scored[-1]["scores"]))
    head = f"| set | metric | step {scored[0]['step']:,} | step {scored[-1]['step']:,} |\n| --- | --- | ---: | ---: |"
    rows = [
        f"| {key.rpartition('/')[0]} | {key.rpartition('/')[2]} | {_shown(first.get(key))} | {value:.4f} |"
        for key, value in last.items()
    ]
    return "## Dev scores\n\n" + "\n".join([head, *rows])


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    return f"`{value!r}`" if isinstance(value, str) else str(value)
