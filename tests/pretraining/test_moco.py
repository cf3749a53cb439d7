"""MoCo against a simulation of it in plain Python: list of keys, dictionary of weights, loops over pairs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from mcontriever.errors import ModelError, RunError
from mcontriever.pretraining.moco import MoCo
from mcontriever.pretraining.temperature import Temperature
from tests.pretraining.naive import naive_infonce
from tests.pretraining.tiny_pairs import gradients, new_encoder, pair_batch, push_back

TEMPERATURE, MOMENTUM, QUEUE, ROWS = 0.1, 0.8, 10, 4


def moco(encoder: Any, **changes: Any) -> MoCo:
    settings = {"temperature": Temperature(TEMPERATURE), "queue_size": QUEUE, "momentum": MOMENTUM, **changes}
    return MoCo(encoder, **settings)


class Simulation:
    """What MoCo does, in float64, one pair after the other."""

    def __init__(self, encoder: Any, tokenizer_folder: Path, **choices: bool) -> None:
        self.encoder, self.choices = encoder, choices
        self.slow = new_encoder(tokenizer_folder)
        self.queue: list[tuple[torch.Tensor, int, int]] = []

    def loss(self, batch: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        with torch.no_grad():
            self.keys = self.slow(batch.keys).double().unflatten(0, (len(batch), -1))
        queries = self.encoder(batch.queries).detach().double().requires_grad_()
        own = list(zip(self.keys, batch.text_B.tolist(), batch.language_B.tolist(), strict=True))
        flat = [(key, text, language) for keys, text, language in own for key in keys]
        candidates = self.queue + (flat if self.choices.get("batch") or not self.queue else [])
        losses = []
        for query, (keys, text, language) in zip(queries, own, strict=True):
            met = [entry for entry in candidates if entry[1] != text]
            of_language = [entry for entry in met if entry[2] == language]
            if self.choices.get("language") and any(entry[2] == language for entry in candidates):
                met = of_language
            if met:
                each = [naive_infonce(query, key, [entry[0] for entry in met], TEMPERATURE) for key in keys]
                losses.append(torch.stack(each).mean())
        loss = torch.stack(losses).mean()
        loss.backward()
        self.new = flat
        return loss.detach(), push_back(self.encoder, batch.queries, queries.grad)

    def after_update(self) -> None:
        for own, new in zip(self.slow.parameters(), self.encoder.parameters(), strict=True):
            own.data = MOMENTUM * own.data + (1 - MOMENTUM) * new.data
        self.queue = (self.queue + self.new)[-QUEUE:]


def train(encoder: Any, batches: Iterator[Any], objective: MoCo, simulation: Simulation) -> None:
    optimizer = torch.optim.SGD(encoder.parameters(), lr=0.5)
    for batch in batches:
        expected, expected_gradients = simulation.loss(batch)
        loss, metrics = objective(batch)
        optimizer.zero_grad()
        loss.backward()
        torch.testing.assert_close(loss.detach().double(), expected, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(gradients(encoder), expected_gradients, rtol=2e-3, atol=2e-5)
        assert float(metrics["loss"]) == float(loss.detach())
        optimizer.step()
        objective.after_update()
        simulation.after_update()


@pytest.mark.parametrize("choices", [{}, {"batch": True}, {"language": True}, {"batch": True, "language": True}])
@pytest.mark.parametrize("keys_per_query", [1, 3])
def test_six_updates_equal_the_simulation(
    encoder: Any, tiny_tokenizer_dir: Path, choices: dict[str, bool], keys_per_query: int
) -> None:
    """Texts come back after 6 samples, so that the queue holds a query's own text."""
    objective = moco(
        encoder,
        batch_negatives=choices.get("batch", False),
        own_language_negatives=choices.get("language", False),
    )
    simulation = Simulation(encoder, tiny_tokenizer_dir, **choices)
    batches = (
        pair_batch(encoder, range(ROWS * step, ROWS * (step + 1)), keys_per_query=keys_per_query, texts=6)
        for step in range(6)
    )
    train(encoder, batches, objective, simulation)


def test_nothing_but_the_encoder_is_in_the_module_tree(encoder: Any) -> None:
    objective = moco(encoder)
    names = {name for name, _ in objective.named_parameters()} | {name for name, _ in objective.named_buffers()}
    assert names == {f"encoder.{name}" for name, _ in encoder.named_parameters()} | {
        f"encoder.{name}" for name, _ in encoder.named_buffers()
    }
    assert set(dict(objective.named_children())) == {"encoder", "temperature"}


def test_micro_batches_fill_the_queue_in_the_order_of_their_samples(encoder: Any) -> None:
    whole, parts = moco(encoder), moco(encoder)
    whole(pair_batch(encoder, range(6)))
    for samples in ([4, 5], [0, 1], [2, 3]):
        parts(pair_batch(encoder, samples))
    for objective in (whole, parts):
        assert len(objective.queue) == 0
        objective.after_update()
    assert parts.queue.negatives().text_K.tolist() == [0, 1, 2, 3, 4, 5]
    torch.testing.assert_close(whole.queue.keys_KH, parts.queue.keys_KH)


def test_looking_at_a_batch_without_training_leaves_no_trace(encoder: Any) -> None:
    objective = moco(encoder).eval()
    objective(pair_batch(encoder, range(4)))
    objective.after_update()
    assert len(objective.queue) == 0


def test_state_continues_where_it_was(encoder: Any, tiny_tokenizer_dir: Path) -> None:
    warm = {"start": 1.0, "warmup_updates": 4}
    first = moco(encoder, temperature=Temperature(0.1, **warm))
    for step in range(3):
        first(pair_batch(encoder, range(4 * step, 4 * step + 4)))
        first.after_update()
    second = moco(new_encoder(tiny_tokenizer_dir), temperature=Temperature(0.1, **warm))
    second.load_state({name: value.clone() for name, value in first.state().items()})
    batch = pair_batch(encoder, range(50, 54))
    assert torch.equal(first(batch)[0], second(batch)[0])
    state = first.state()
    state.pop("queue.keys")
    with pytest.raises(ModelError, match=r"lacks 1 values of this objective, the first is queue\.keys"):
        second.load_state(state)


def test_metrics_say_what_they_mean(encoder: Any) -> None:
    objective = moco(encoder, batch_negatives=True)
    objective(pair_batch(encoder, range(8)))
    objective.after_update()
    batch = pair_batch(encoder, range(20, 24))
    _, metrics = objective(batch)
    queries, keys = encoder(batch.queries).detach(), objective.momentum.encode(batch.keys)
    others = [torch.cat([objective.queue.negatives().keys_KH, keys[torch.arange(4) != row]]) for row in range(4)]
    scores = torch.stack([query @ met.T for query, met in zip(queries, others, strict=True)])
    positive = (queries * keys).sum(1)
    expected = {
        "accuracy": (positive > scores.amax(1)).float().mean(),
        "chance": 1 / 12,
        "blind_loss": torch.tensor(12.0).log(),
        "queries": 4,
        "positive_score": positive.mean(),
        "negative_score": scores.mean(),
        "query_std": queries.std(0, correction=0).mean(),
        "key_std": keys.std(0, correction=0).mean(),
        "mean_cosine": (queries @ queries.T)[~torch.eye(4, dtype=torch.bool)].mean(),
        "alignment": (queries - keys).square().sum(1).mean(),
        "temperature": TEMPERATURE,
        "momentum": MOMENTUM,
        "queue_filled": 8,
    }
    for name, value in expected.items():
        assert float(metrics[name]) == pytest.approx(float(value), rel=1e-4, abs=1e-6), name
    distances = torch.pdist(queries).square()
    assert float(metrics["uniformity"]) == pytest.approx(float((-2 * distances).exp().mean().log()), rel=1e-4)


def test_a_batch_without_negatives_is_refused_once_the_queue_has_begun(encoder: Any) -> None:
    """The very first batch may be a single pair: with an empty queue there is nothing yet to contrast with."""
    objective = moco(encoder)
    loss, _ = objective(pair_batch(encoder, [5], texts=1))
    loss.backward()
    assert float(loss.detach()) == 0
    objective.after_update()
    with pytest.raises(RunError, match="no query of the batch has a negative, so its loss would be 0"):
        objective(pair_batch(encoder, [6], texts=1))
