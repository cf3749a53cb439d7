"""Quality, speed and size of some models: a table, and a chart of it.

    python benchmarks/quality/frontier.py nano mini MODEL... --sets DATA/eval/xquad-ar-en ... --output frontier.json

Quality is the mean nDCG@10 of the sets. Speed is passages of 100 words in a processor second, in float32 with one
thread: every model embeds the same passages in turn, for some rounds, and the median counts. Size is that of the
model's folder. The chart is written beside the table, as PNG.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from mcontriever.encoder import Encoder
from mcontriever.evaluation.dev_sets import DevSet, score_dev_sets
from mcontriever.hub import model_folder
from mcontriever.processor import instruction_sets
from mcontriever.progress import setup_logging

WORDS = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--names", nargs="+", help="of the models, for table and chart")
    parser.add_argument("--sets", type=Path, nargs="+", required=True)
    parser.add_argument("--passages", type=int, default=64, help="in a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, required=True)
    given = parser.parse_args()
    names = given.names or [Path(model).name for model in given.models]
    if len(names) != len(given.models):
        parser.error("as many names as models")
    setup_logging()
    torch.set_num_threads(1)
    sets = [DevSet.load(folder) for folder in given.sets]
    rows = {name: measured(model, sets) for name, model in zip(names, given.models, strict=True)}
    speeds = passages_a_second(given.models, passages_of(sets, given.passages), given.rounds)
    for name, speed in zip(names, speeds, strict=True):
        rows[name]["passages_a_second"] = round(speed, 1)
    found = {"processor": sorted(instruction_sets()), "models": rows}
    given.output.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))
    draw(rows, given.output.with_suffix(".png"))


def measured(model: str, sets: list[DevSet]) -> dict[str, Any]:
    scores = score_dev_sets(Encoder.load(model, precision="auto"), sets)
    by_set = {pool.name: round(100 * scores[pool.name]["ndcg@10"], 1) for pool in sets}
    size = sum(file.stat().st_size for file in model_folder(model).rglob("*") if file.is_file())
    mean = statistics.mean(100 * scores[pool.name]["ndcg@10"] for pool in sets)
    return {"ndcg_at_10": by_set, "mean": round(mean, 1), "megabytes": round(size / 1e6, 1)}


def passages_of(sets: list[DevSet], count: int) -> list[str]:
    """The sets' words in a row, cut into passages."""
    words = [word for pool in sets for document in pool.documents for word in document.text.split()]
    return [" ".join(words[place * WORDS : (place + 1) * WORDS]) for place in range(min(count, len(words) // WORDS))]


def passages_a_second(models: list[str], passages: list[str], rounds: int) -> list[float]:
    encoders = [Encoder.load(model, precision="float32") for model in models]
    seconds: list[list[float]] = [[] for _ in models]
    for number in range(rounds + 1):  # the first is a warm-up
        for encoder, taken in zip(encoders, seconds, strict=True):
            began = time.process_time()
            encoder.embed_documents(passages)
            if number:
                taken.append(time.process_time() - began)
    return [len(passages) / statistics.median(taken) for taken in seconds]


def draw(rows: dict[str, dict[str, Any]], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    panel = figure.subplots()
    for name, row in rows.items():
        panel.scatter(row["passages_a_second"], row["mean"], s=6 * row["megabytes"] ** 0.75, alpha=0.6)
        place = row["passages_a_second"], row["mean"]
        panel.annotate(
            f"{name}, {row['megabytes']:.0f} MB", place, xytext=(6, 5), textcoords="offset points", fontsize=8
        )
    panel.set(xscale="log", xlabel="passages of 100 words in a processor second", ylabel="mean nDCG@10")
    panel.grid(alpha=0.3)
    panel.margins(0.15)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
