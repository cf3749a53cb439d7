"""The alarm on real runs that collapse and real runs that do not, and its patience on made-up ones."""

from pathlib import Path
from typing import Any

import pytest
import torch

from mcontriever.pretraining.collapse import PATIENCE, collapse_advice
from mcontriever.pretraining.inbatch import InBatch
from mcontriever.pretraining.moco import MoCo
from mcontriever.pretraining.temperature import Temperature
from tests.pretraining.tiny_pairs import new_encoder, pair_batch

ROWS, STEPS = 16, 30


def history_of(encoder: Any, kind: str, temperature: float, rate: float) -> list[dict[str, float]]:
    """AdamW with clipping, as a trainer would."""
    objective: Any
    if kind == "moco":
        objective = MoCo(encoder, temperature=Temperature(temperature), queue_size=256, momentum=0.99)
    else:
        objective = InBatch(encoder, temperature=Temperature(temperature))
    optimizer = torch.optim.AdamW(objective.parameters(), lr=rate)
    history = []
    for step in range(STEPS):
        loss, metrics = objective(pair_batch(encoder, range(step * ROWS, (step + 1) * ROWS)))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(objective.parameters(), 1.0)
        optimizer.step()
        objective.after_update()
        history.append({name: float(value) for name, value in metrics.items()})
    return history


def first_advice(history: list[dict[str, float]]) -> str | None:
    every = (collapse_advice(history[:seen]) for seen in range(1, len(history) + 1))
    return next((advice for advice in every if advice), None)


@pytest.mark.parametrize("normalize", [True, False], ids=["normalised", "raw"])
@pytest.mark.parametrize("kind", ["moco", "inbatch"])
def test_a_temperature_of_1e_4_and_a_rate_of_1_raise_the_alarm(
    kind: str, normalize: bool, tiny_tokenizer_dir: Path
) -> None:
    encoder = new_encoder(tiny_tokenizer_dir, normalize=normalize)
    history = history_of(encoder, kind, temperature=1e-4, rate=1.0)
    advice = first_advice(history)
    assert advice is not None
    assert "the run has collapsed" in advice
    assert "Raise the temperature (0.0001; 0.05 is usual). Lower the learning rate" in advice


def test_the_queue_alone_would_call_a_collapsed_run_perfect(encoder: Any) -> None:
    """Why the alarm looks at the batch: all texts are equal, and yet queue accuracy is 1 and the loss about 0."""
    last = history_of(encoder, "moco", temperature=1e-4, rate=1.0)[-1]
    assert last["mean_cosine"] > 0.9999
    assert last["accuracy"] > 0.9
    assert last["batch_accuracy"] < 3 * last["batch_chance"]


@pytest.mark.parametrize("normalize", [True, False], ids=["normalised", "raw"])
@pytest.mark.parametrize("kind", ["moco", "inbatch"])
@pytest.mark.parametrize("shift", [0.0, 20.0], ids=["", "crowded"])
def test_an_untrained_model_that_warms_up_raises_none(
    kind: str, normalize: bool, shift: float, tiny_tokenizer_dir: Path
) -> None:
    """Crowded: a large common part in all embeddings, as XLM-R's, before training."""
    encoder = new_encoder(tiny_tokenizer_dir, normalize=normalize)
    with torch.no_grad():
        encoder.backbone.encoder.layer[-1].output.LayerNorm.bias.add_(shift)
    history = history_of(encoder, kind, temperature=0.05, rate=1e-5)
    assert (history[0]["mean_cosine"] > 0.99) == (shift > 0)
    assert first_advice(history) is None


def record(**changes: float) -> dict[str, float]:
    usual = {"accuracy": 0.5, "chance": 0.02, "queries": 64, "mean_cosine": 0.5, "query_std": 0.1, "temperature": 0.05}
    return {**usual, **changes}


def test_crowding_alone_or_chance_alone_is_no_collapse() -> None:
    start = [record() for _ in range(20)]
    assert collapse_advice(start + [record(mean_cosine=0.99999)] * 10) is None
    assert collapse_advice(start + [record(accuracy=0.02)] * 10) is None
    assert collapse_advice(start + [record(accuracy=0.02, mean_cosine=0.99999)] * 4) is None
    assert collapse_advice(start + [record(accuracy=0.02, mean_cosine=0.99999)] * 5) is not None
    assert collapse_advice([record(accuracy=0.02, mean_cosine=0.99999)] * 9) is None


def test_a_run_that_never_leaves_chance_is_given_up_after_patience() -> None:
    blind = record(accuracy=0.021)
    assert collapse_advice([blind] * (PATIENCE - 1)) is None
    advice = collapse_advice([blind] * PATIENCE)
    assert advice is not None
    assert "the run learns nothing: over the last 50 records" in advice
    assert "2.10% of cases (chance 2.00%)" in advice
    assert collapse_advice([record(accuracy=0.04)] * PATIENCE) is None


def test_a_loss_without_a_temperature_is_judged_too() -> None:
    """The advice then names none: the hinge of CONTRIBUTING.md has a margin instead."""
    healthy = [{name: value for name, value in record().items() if name != "temperature"}] * 5
    lost = {**healthy[0], "accuracy": 0.02, "mean_cosine": 0.99999}
    advice = collapse_advice(healthy + [lost] * 5)
    assert advice is not None
    assert "temperature" not in advice
    advice = collapse_advice([{**lost, "mean_cosine": 0.5}] * PATIENCE)
    assert advice is not None
    assert "Raise the learning rate, normalise" in advice
