"""Means between log lines, and what is best so far."""

import json

from mcontriever.training.run_state import RunState


def test_means_are_means_and_counts_are_sums() -> None:
    state = RunState()
    for loss, tokens in ((1.0, 10.0), (3.0, 20.0)):
        state.means.add({"loss": loss, "tokens": tokens, "rows/sw": 4.0})
    assert state.means.take() == {"loss": 2.0, "tokens": 30.0, "rows/sw": 8.0}
    assert state.means.steps == 0


def test_a_state_survives_json_in_the_middle_of_an_interval() -> None:
    state = RunState(step=3, samples=24, tokens=999, best_value=0.5, best_step=2)
    state.means.add({"loss": 0.1 + 0.2, "tokens": 7.0})
    again = RunState.from_json(json.loads(json.dumps({**state.to_json(), "world_size": 2})))
    assert again == state
    again.means.add({"loss": 1.0, "tokens": 7.0})
    assert again.means.take() == {"loss": (0.1 + 0.2 + 1.0) / 2, "tokens": 14.0}


def test_best_is_by_the_named_metric_and_waiting_is_counted() -> None:
    state = RunState()
    verdicts = []
    for step, value in enumerate([0.3, 0.2, 0.3, 0.4], start=1):
        state.step = step
        verdicts.append(
            state.take_scores({"xquad-ar-en": {"ndcg@10": value, "recall@100": 1 - value}}, "xquad-ar-en/ndcg@10")
        )
    assert verdicts == [True, False, False, True]
    assert (state.best_step, state.best_value, state.evaluations_since_best) == (4, 0.4, 0)
