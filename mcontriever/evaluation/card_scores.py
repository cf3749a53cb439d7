"""A model card's scores from a benchmark's folder: `mcontriever benchmark ... --card` writes them into README.md.

The block is between two marks. A later benchmark replaces it and does not change the rest of the card.
"""

from pathlib import Path

from mcontriever.disk import write_bytes
from mcontriever.errors import ModelError
from mcontriever.evaluation.results import Benchmark
from mcontriever.evaluation.score_table import metric_name, score_table, to_markdown

BEGIN, END = "<!-- mcontriever benchmark -->", "<!-- end of mcontriever benchmark -->"


def score_block(folder: str | Path, model: str, beside: tuple[str, ...] = ("bm25",)) -> str:
    """The main table of a benchmark with this model, and those of `beside` that were measured, as Markdown."""
    benchmark = Benchmark.load(folder)
    if model not in benchmark.scores:
        fix = f"choose one of {', '.join(benchmark.scores)}"
        raise ModelError(f"the benchmark has no model {model!r}", where=folder, fix=fix)
    facts = benchmark.facts
    columns = [model, *(name for name in beside if name in benchmark.scores and name != model)]
    metric = facts["metrics"][0]
    table = score_table({name: benchmark.scores[name] for name in columns}, [], metric)
    versions = ", ".join(f"{name} {facts['versions'][name]}" for name in ("mcontriever", "mteb"))
    return "\n".join(
        [
            BEGIN,
            f"## Scores: {facts['suite']}, {metric_name(metric)}, percent",
            "",
            to_markdown(table),
            "",
            f"Measured {facts['started'][:10]} with {versions}; model revision "
            f"`{facts['models'][model]['revision'][:16]}`.",
            END,
        ]
    )


def write_scores_into_card(card: Path, block: str) -> None:
    """Replace the block of an earlier benchmark, or add one at the end."""
    text = card.read_text(encoding="utf-8") if card.is_file() else f"# {card.parent.name}\n"
    before, begin, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END) if begin else ("", "", "\n")
    write_bytes(card, f"{before.rstrip()}\n\n{block}\n{after.lstrip()}".encode())
