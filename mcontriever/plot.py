"""`mcontriever plot RUN...`: the curves of one or several runs as a PNG.

Loss, accuracy, alignment and uniformity (Wang and Isola 2020: both low is good), and dev scores, over steps.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mcontriever.disk import atomic_path
from mcontriever.errors import ConfigError, StoreError
from mcontriever.progress import log
from mcontriever.training.metrics_log import METRICS, SCORES, read_log

Line = dict[str, Any]
SMOOTHED_POINTS = 400
# A layout that measures all labels would draw everything twice.
MARGINS = {"left": 0.05, "right": 0.985, "bottom": 0.06, "top": 0.955, "wspace": 0.13, "hspace": 0.24}


def run(runs: Sequence[Path], output: Path, metric: str) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    output = output if output.suffix else output.with_suffix(".png")
    logs = [(path, _read(path)) for path in runs]
    figure = Figure(figsize=(12, 8))
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, 2, gridspec_kw=MARGINS)
    for path, (metrics, scores) in logs:
        name = path.resolve().name
        _curve(panels[0, 0], name, metrics, "loss")
        _curve(panels[0, 1], name, metrics, "accuracy")
        _curve(panels[1, 0], f"{name}: alignment", metrics, "alignment")
        _curve(panels[1, 0], f"{name}: uniformity", metrics, "uniformity", style="--")
        _score_curves(panels[1, 1], name, scores, metric, single=len(logs) == 1)
    known = sorted(figure.canvas.get_supported_filetypes())
    if output.suffix.removeprefix(".").lower() not in known:
        fix = f"let its name end in .png, or .{', .'.join(known)}"
        raise ConfigError(f"no picture can be of the kind {output.suffix}", where=output, fix=fix)
    titles = ("loss", "accuracy", "alignment and uniformity", f"dev {metric}")
    for panel, title in zip(panels.flat, titles, strict=True):
        panel.set_title(title)
        panel.set_xlabel("step")
        panel.grid(alpha=0.3)
        if panel.get_legend_handles_labels()[0]:
            panel.legend(fontsize=8)
    with atomic_path(output) as temporary:
        figure.savefig(temporary, dpi=120)
    log.info(f"drew {len(runs)} run(s) to {output}")


def _read(path: Path) -> tuple[list[Line], list[Line]]:
    metrics = read_log(path / METRICS)
    if not metrics:
        raise StoreError("no logged steps", where=path / METRICS, fix="give the folder of a run (run.output)")
    return metrics, read_log(path / SCORES)


def _curve(panel: Any, label: str, lines: list[Line], name: str, style: str = "-") -> None:
    points = [(line["step"], line[name]) for line in lines if line.get(name) is not None]
    if points:
        every = max(1, len(points) // SMOOTHED_POINTS)
        panel.plot(*_thinned(points, every), style, label=label, linewidth=1.2)


def _thinned(points: list[tuple[int, float]], every: int) -> tuple[list[int], list[float]]:
    """The mean of each `every` points, so that a long run is readable."""
    groups = [points[start : start + every] for start in range(0, len(points), every)]
    return [group[-1][0] for group in groups], [sum(value for _, value in group) / len(group) for group in groups]


def _score_curves(panel: Any, name: str, scores: list[Line], metric: str, *, single: bool) -> None:
    """One run: a line for each dev set. Several: the mean of each run."""
    sets = sorted({dev_set for line in scores for dev_set in line["scores"]}) if single else ["mean"]
    for dev_set in sets:
        points = [(line["step"], line["scores"][dev_set][metric]) for line in scores if dev_set in line["scores"]]
        if points:
            label = dev_set if single else name
            panel.plot(*zip(*points, strict=True), marker="o", markersize=3, label=label, linewidth=1.2)
