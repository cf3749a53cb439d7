"""What training on English does to other languages: nDCG@10 across scripts against English, a point for each run.

    python benchmarks/quality/real_charts.py results/real-encoder/changes.json ... --output english.png

The files are those that real_changes.py writes. A line leads from a run on crops to each run on English questions that
began there.
"""

import argparse
import json
import statistics
from collections import defaultdict
from pathlib import Path

from real_changes import ENGLISH

ACROSS = ("xquad-ar-en", "xquad-zh-en", "xquad-ru-en")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    given = parser.parse_args()
    draw(points_of(given.files), given.output)


def points_of(files: list[Path]) -> dict[str, tuple[float, float]]:
    """Run -> nDCG@10 in English, and its mean across scripts. Runs that lack a set are left out."""
    scores: dict[str, dict[str, float]] = defaultdict(dict)
    for row in (row for file in files for row in json.loads(file.read_text())):
        if row["metric"] == "ndcg_at_10":
            scores[row["model"]][row["task"]] = 100 * row["value"]
    return {
        name: (found["xquad-en-en"], statistics.mean(found[task] for task in ACROSS))
        for name, found in scores.items()
        if {"xquad-en-en", *ACROSS} <= set(found)
    }


def draw(points: dict[str, tuple[float, float]], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6), layout="constrained")
    FigureCanvasAgg(figure)
    panel = figure.subplots()
    for name, (_, _, before) in ENGLISH.items():
        if name in points and before in points:
            panel.plot(*zip(points[before], points[name], strict=True), color="0.7", linewidth=1, zorder=1)
    beginnings = {before for _, _, before in ENGLISH.values()}
    for name, point in points.items():
        if name in ENGLISH or name in beginnings:
            panel.scatter(*point, s=25, color="tab:orange" if name in ENGLISH else "tab:blue", zorder=2)
            panel.annotate(name, point, xytext=(4, 3), textcoords="offset points", fontsize=7)
    panel.set(xlabel="nDCG@10, English", ylabel="nDCG@10, Arabic, Chinese and Russian to English (mean)")
    panel.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
