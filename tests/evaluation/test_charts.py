from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from mcontriever.evaluation.charts import COLOURS, MARKERS, plot_language_bias, plot_scores
from mcontriever.evaluation.language_bias import LanguageCounts
from mcontriever.evaluation.published import published_systems
from mcontriever.evaluation.results import Row
from mcontriever.evaluation.score_table import score_table


def scores_of(models: int, tasks: int) -> dict[str, dict[Row, float]]:
    random = np.random.default_rng(0)
    rows = [Row(f"task-{i}", ("ar->en", "sw", "zh->mixed")[i % 3], "ndcg_at_10") for i in range(tasks)]
    return {f"model {i}": {row: float(random.random()) for row in rows} for i in range(models)}


@pytest.mark.parametrize(("models", "tasks"), [(1, 1), (9, 12)])
def test_the_chart_grows_with_its_rows_and_nothing_is_cut_off(tmp_path: Path, models: int, tasks: int) -> None:
    path = tmp_path / "scores.png"
    plot_scores(score_table(scores_of(models, tasks), [], "ndcg_at_10"), path, "title")
    image = imread(path)[:, :, :3]
    assert image.shape[0] > 150 * 0.34 * tasks
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    assert (border == 1.0).all()  # white all around: no label runs over the edge


def test_every_model_has_its_own_colour_in_the_picture(tmp_path: Path) -> None:
    path = tmp_path / "scores.png"
    plot_scores(score_table(scores_of(8, 4), [], "ndcg_at_10"), path, "title")
    red, green, blue = (imread(path)[:, :, :3] * 255).round().astype(int).reshape(-1, 3).T
    found = set(np.unique((red << 16) + (green << 8) + blue).tolist())
    assert {int(colour[1:], 16) for colour in COLOURS} <= found
    assert len(MARKERS) == len(COLOURS) == len(set(MARKERS))


def test_published_systems_are_grey_behind_ours(tmp_path: Path) -> None:
    published = published_systems(["beir-supervised-ndcg10"])
    ours = {"mine": {Row("SciFact", "en", "ndcg_at_10"): 0.6}}
    with_them, without = tmp_path / "a.png", tmp_path / "b.png"
    table = score_table(ours, published, "ndcg_at_10")
    plot_scores(table, with_them, "title", highlighted=["Contriever + MS MARCO"])
    plot_scores(score_table(ours, [], "ndcg_at_10"), without, "title")
    grey = np.array([0x8A, 0x8A, 0x8A]) / 255
    counts = [int((np.abs(imread(path)[:, :, :3] - grey) < 0.01).all(2).sum()) for path in (with_them, without)]
    assert counts[0] > counts[1] + 100


def test_the_heat_map_is_dark_where_no_hits_are(tmp_path: Path) -> None:
    pool = {"ar": 10, "en": 10, "zh": 10}
    top = {code: {code: 100} for code in pool}
    relevant = {code: dict.fromkeys(pool, 10) for code in pool}
    path = tmp_path / "map.png"
    plot_language_bias(LanguageCounts(10, top, relevant, pool), path, "title")
    image = imread(path)[:, :, :3]
    darkest, brightest = (np.array(colour) for colour in ((0.0, 0.135112, 0.304751), (0.995737, 0.909344, 0.217772)))
    dark = int((np.abs(image - darkest) < 0.02).all(2).sum())
    bright = int((np.abs(image - brightest) < 0.02).all(2).sum())
    assert dark / bright == pytest.approx(2.0, rel=0.25)  # of nine cells on the left three are bright, six dark
