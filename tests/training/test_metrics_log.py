"""The log of a run: whole lines, each step once, also after a kill in the middle of a line."""

from pathlib import Path

from mcontriever.training.metrics_log import METRICS, SCORES, MetricsLog, cut_after, read_log


def open_log(run: Path, first_step: int) -> MetricsLog:
    return MetricsLog(run, first_step=first_step, total_steps=100, tensorboard=True, wandb_project=None)


def test_lines_after_the_checkpoint_are_cut_off_when_the_run_continues(tmp_path: Path) -> None:
    log = open_log(tmp_path, first_step=-1)
    log.write_scores(0, {"a": {"ndcg@10": 0.25}})
    for step in (10, 20, 30):
        log.write(step, {"loss": 1 / step, "languages": {"sw": 1.0}}, seconds_left=5)
    log.write_scores(30, {"a": {"ndcg@10": 0.5}})
    log.close()
    with open(tmp_path / METRICS, "ab") as file:
        file.write(b'{"step": 40, "lo')  # killed here
    assert [line["step"] for line in read_log(tmp_path / METRICS)] == [10, 20, 30]

    log = open_log(tmp_path, first_step=20)
    log.write(30, {"loss": 1 / 30}, seconds_left=5)
    log.close()
    assert [(line["step"], line["loss"]) for line in read_log(tmp_path / METRICS)] == [
        (10, 0.1),
        (20, 0.05),
        (30, 1 / 30),
    ]
    assert [line["step"] for line in read_log(tmp_path / SCORES)] == [0]
    assert list((tmp_path / "tensorboard").iterdir())


def test_a_log_that_needs_no_cut_is_left_as_it_is(tmp_path: Path) -> None:
    open_log(tmp_path, first_step=-1).write(10, {"loss": 0.5}, seconds_left=1)
    before = (tmp_path / METRICS).stat().st_ino
    cut_after(tmp_path / METRICS, 10)
    assert (tmp_path / METRICS).stat().st_ino == before


def test_what_is_not_finite_is_null(tmp_path: Path) -> None:
    open_log(tmp_path, first_step=-1).write(1, {"loss": float("nan")}, seconds_left=1)
    assert read_log(tmp_path / METRICS) == [{"step": 1, "loss": None}]
