"""Curves of runs as a picture."""

import json
from pathlib import Path

import numpy as np
import pytest

from mcontriever import plot
from mcontriever.errors import StoreError


def make_run(run: Path, *, scored: bool) -> Path:
    run.mkdir()
    lines = [
        {
            "step": step,
            "loss": 8 / step,
            "accuracy": None if step == 3 else 1 - 1 / step,
            "alignment": 0.5,
            "uniformity": -1,
        }
        for step in range(1, 900)
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if scored:
        scores = [
            {"step": step, "scores": {"xquad-ar-en": {"ndcg@10": step / 900}, "mean": {"ndcg@10": step / 900}}}
            for step in (0, 450, 899)
        ]
        (run / "scores.jsonl").write_text("".join(json.dumps(line) + "\n" for line in scores))
    return run


def test_one_run_and_several_become_a_picture(tmp_path: Path) -> None:
    from matplotlib import image

    runs = [make_run(tmp_path / "a", scored=True), make_run(tmp_path / "b", scored=False)]
    sizes = []
    for given in (runs[:1], runs):
        plot.run(given, tmp_path / "out" / "curves.png", "ndcg@10")
        picture = image.imread(tmp_path / "out" / "curves.png")
        assert picture.shape == (960, 1440, 4)
        sizes.append(float(np.mean(picture[..., :3] < 0.9)))
    assert 0.01 < sizes[0] < 0.2


def test_a_folder_without_a_log_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no logged steps"):
        plot.run([tmp_path], tmp_path / "curves.png", "ndcg@10")
