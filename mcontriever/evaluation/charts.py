"""Two pictures: the scores as a dot plot, and the languages of the hits as a heat map.

Colour-blind safe: Okabe and Ito's colours, a marker shape for each model, cividis for the heat map, and a number in
every cell. Languages have their English names, so no font or text direction matters.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mcontriever.disk import atomic_path
from mcontriever.evaluation.language_bias import LanguageCounts, shares
from mcontriever.evaluation.language_names import language_name
from mcontriever.evaluation.language_pairs import PairScores, languages_of_pairs
from mcontriever.evaluation.results import Row
from mcontriever.evaluation.score_table import Column, ScoreTable, metric_name

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
GREY = "#8A8A8A"
DOTS_PER_INCH = 150
ROW_INCHES, MARK_INCHES = 0.34, 0.12


def plot_scores(table: ScoreTable, path: Path, title: str, highlighted: Sequence[str] = ()) -> None:
    """One line per row of the table, one mark per model; published systems are grey, behind them.

    Those in `highlighted` have hollow marks and a name; the others are ticks.
    """
    measured = [column for column in table.columns if column.measured]
    named = [column for column in table.columns if not column.measured and column.name in highlighted]
    others = [column for column in table.columns if not column.measured and column.name not in highlighted]
    height = max(ROW_INCHES, MARK_INCHES * len(measured)) * len(table.rows)
    figure = _figure(width=9.0, height=height + 2.0)
    # Sizes in inches, so a row is equally high in every chart; saving crops the margins.
    axes = figure.add_axes((0.3, 1.2 / (height + 2.0), 0.68, height / (height + 2.0)))
    heights = {row: -float(number) for number, row in enumerate(table.rows)}
    for number, column in enumerate(others):
        label = f"other published systems ({len(others)})" if number == 0 else None
        _marks(axes, column, heights, marker="|", color=GREY, s=90, linewidths=1.2, label=label, zorder=2)
    for column, marker in zip(named, ("s", "o", "D"), strict=False):
        hollow = {"marker": marker, "facecolors": "none", "edgecolors": "#404040", "linewidths": 1.4}
        _marks(axes, column, heights, s=60, label=f"{column.name} (published)", zorder=2, **hollow)
    for number, column in enumerate(measured):
        turn = number // len(COLOURS)  # from the ninth model on, colours repeat with another shape
        style = {"marker": MARKERS[(number + 3 * turn) % len(MARKERS)], "color": COLOURS[number % len(COLOURS)]}
        shift = min(0.25, 0.55 / max(len(measured) - 1, 1)) * (number - (len(measured) - 1) / 2)
        shifted = {row: height - shift for row, height in heights.items()}
        _marks(axes, column, shifted, s=42, label=column.name, zorder=3, edgecolors="white", linewidths=0.6, **style)
    _label_rows(axes, table.rows, heights)
    axes.set_xlim(-1, 101)
    axes.set_xlabel(f"{metric_name(table.metric)}, percent")
    axes.set_title(title, loc="left", fontsize=11, pad=12)
    axes.legend(loc="upper left", bbox_to_anchor=(0.0, -0.5 / height), ncols=2, frameon=False, fontsize=9)
    _save(figure, path)


def plot_language_bias(counts: LanguageCounts, path: Path, title: str) -> None:
    """Two heat maps side by side: the languages of the top hits, and of the relevant documents, per query language."""
    asked, pool = sorted(counts.top), sorted(counts.pool)
    cell = 0.62
    figure = _figure(width=3.6 + 2 * cell * len(pool), height=2.2 + cell * len(asked), layout="constrained")
    left, right = figure.subplots(1, 2)
    best = shares(counts.top, asked, pool)
    relevant = shares(counts.relevant, asked, pool)
    highest = max(max(map(max, best)), max(map(max, relevant)))
    _heat_map(left, best, asked, pool, highest, f"share of the top {counts.k} hits")
    _heat_map(right, relevant, asked, pool, highest, "share of the relevant documents")
    left.set_ylabel("language of the query")
    right.set_yticklabels([])
    figure.suptitle(title, x=0.02, ha="left", fontsize=11)
    _save(figure, path)


def plot_language_pairs(scores: PairScores, path: Path, title: str) -> None:
    """A heat map of one score by the languages of question and answer."""
    asked, answers = languages_of_pairs(scores)
    figure = _figure(width=3.0 + 0.62 * len(answers), height=2.2 + 0.62 * len(asked), layout="constrained")
    axes = figure.subplots()
    table = [[scores.get((one, other), float("nan")) for other in answers] for one in asked]
    _heat_map(axes, table, asked, answers, 1.0, "score")
    axes.set_ylabel("language of the query")
    figure.suptitle(title, x=0.02, ha="left", fontsize=11)
    _save(figure, path)


def _heat_map(
    axes: Any, table: list[list[float]], asked: Sequence[str], pool: Sequence[str], highest: float, title: str
) -> None:
    axes.imshow(table, cmap="cividis", vmin=0.0, vmax=highest, aspect="auto")
    for row, shares_of_row in enumerate(table):
        for column, share in enumerate(shares_of_row):
            # cividis goes from dark blue to bright yellow
            colour = "white" if share < 0.6 * highest else "black"
            own = asked[row] == pool[column]
            weight = "bold" if own else "normal"
            centred = {"ha": "center", "va": "center", "fontsize": 9}
            shown = "" if math.isnan(share) else f"{100 * share:.0f}"
            axes.text(column, row, shown, color=colour, fontweight=weight, **centred)
    axes.set_xticks(range(len(pool)), [language_name(code) for code in pool], rotation=40, ha="right", fontsize=9)
    axes.set_yticks(range(len(asked)), [language_name(code) for code in asked], fontsize=9)
    axes.set_xlabel("language of the document")
    axes.set_title(f"{title}, percent", fontsize=10)
    axes.tick_params(length=0)


def _marks(axes: Any, column: Column, heights: dict[Row, float], **style: Any) -> None:
    rows = [row for row in heights if row in column.values]
    axes.scatter([column.values[row] for row in rows], [heights[row] for row in rows], **style)


def _label_rows(axes: Any, rows: Sequence[Row], heights: dict[Row, float]) -> None:
    one_language = len({row.language for row in rows}) == 1
    labels = [row.task if one_language else f"{row.task}   {language_name(row.language)}" for row in rows]
    axes.set_yticks([heights[row] for row in rows], labels, fontsize=9)
    axes.set_ylim(-len(rows) + 0.4, 0.6)
    for row in rows[1:]:
        axes.axhline(heights[row] + 0.5, color="#EEEEEE", linewidth=0.8, zorder=0)
    axes.grid(axis="x", color="#DDDDDD", linewidth=0.8, zorder=0)
    axes.tick_params(length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def _figure(width: float, height: float, layout: str = "none") -> Any:
    """Without pyplot, which keeps state and wants a display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH, layout=layout)  # type: ignore[arg-type]
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Any, path: Path) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", bbox_inches="tight", facecolor="white")
