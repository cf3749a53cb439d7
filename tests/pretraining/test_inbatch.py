"""In-batch contrast against the loop, whole and in sub-batches."""

from typing import Any

import pytest
import torch

from mcontriever.errors import ConfigError, RunError
from mcontriever.pretraining.inbatch import InBatch
from mcontriever.pretraining.temperature import Temperature
from mcontriever.tokens import PackedBatch
from tests.pretraining.naive import naive_inbatch
from tests.pretraining.tiny_pairs import gradients, pair_batch, push_back


@pytest.mark.parametrize(("temperature", "symmetric"), [(0.02, True), (1.0, True), (0.05, False)])
@pytest.mark.parametrize("rows_per_sub_batch", [None, 3, 16, 1])
@pytest.mark.parametrize("texts", [1000, 5])
def test_loss_and_gradients_equal_the_loop(
    encoder: Any, temperature: float, symmetric: bool, rows_per_sub_batch: int | None, texts: int
) -> None:
    objective = InBatch(
        encoder, temperature=Temperature(temperature), symmetric=symmetric, rows_per_sub_batch=rows_per_sub_batch
    )
    batch = pair_batch(encoder, range(8), texts=texts)
    loss, metrics = objective(batch)
    loss.backward()
    found = gradients(encoder)

    both = PackedBatch.join([batch.queries, batch.keys])
    embeddings = encoder(both).detach().double().requires_grad_()
    expected = naive_inbatch(embeddings[:8], embeddings[8:], batch.text_B.tolist(), temperature, symmetric)
    expected.backward()
    torch.testing.assert_close(loss.detach().double(), expected.detach(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found, push_back(encoder, both, embeddings.grad), rtol=2e-3, atol=2e-5)
    assert float(metrics["loss"]) == float(loss.detach())


def test_metrics_say_what_they_mean(encoder: Any) -> None:
    batch = pair_batch(encoder, range(6))
    _, metrics = InBatch(encoder, temperature=Temperature(0.1)).eval()(batch)
    queries, keys = encoder(batch.queries).detach(), encoder(batch.keys).detach()
    scores = queries @ keys.T
    others = ~torch.eye(6, dtype=torch.bool)
    assert float(metrics["accuracy"]) == float((scores.argmax(1) == torch.arange(6)).float().mean())
    assert float(metrics["positive_score"]) == pytest.approx(float(scores.diagonal().mean()), rel=1e-4)
    assert float(metrics["negative_score"]) == pytest.approx(float(scores[others].mean()), rel=1e-3, abs=1e-6)
    assert float(metrics["chance"]) == pytest.approx(1 / 6)
    assert float(metrics["blind_loss"]) == pytest.approx(float(torch.tensor(6.0).log()))
    assert float(metrics["mean_cosine"]) == pytest.approx(float((queries @ queries.T)[others].mean()), rel=1e-3)


def test_equal_embeddings_are_found_by_nobody(encoder: Any) -> None:
    with torch.no_grad():
        for value in encoder.parameters():
            value.zero_()
        encoder.backbone.embeddings.LayerNorm.bias.fill_(1.0)
    objective = InBatch(encoder, temperature=Temperature(0.1)).eval()
    _, metrics = objective(pair_batch(encoder, range(6)))
    assert float(metrics["accuracy"]) == 0
    assert float(metrics["loss"]) == pytest.approx(float(metrics["blind_loss"]))


def test_batches_that_teach_nothing_are_refused(encoder: Any) -> None:
    objective = InBatch(encoder, temperature=Temperature(0.1))
    with pytest.raises(RunError, match=r"no query of the batch \(1 pairs over all ranks\) has a negative"):
        objective(pair_batch(encoder, [3]))
    with pytest.raises(RunError, match=r"no query of the batch \(4 pairs over all ranks\) has a negative"):
        objective(pair_batch(encoder, range(4), texts=1))
    with pytest.raises(ConfigError, match="takes 1 key for each query, found 2"):
        objective(pair_batch(encoder, range(4), keys_per_query=2))
    with pytest.raises(ConfigError, match="rows_per_sub_batch 0 is less than 1"):
        InBatch(encoder, temperature=Temperature(0.1), rows_per_sub_batch=0)


def test_the_warm_up_of_the_temperature_is_state(encoder: Any) -> None:
    objective = InBatch(encoder, temperature=Temperature(0.05, start=1.0, warmup_updates=10))
    for _ in range(3):
        objective.after_update()
    other = InBatch(encoder, temperature=Temperature(0.05, start=1.0, warmup_updates=10))
    other.load_state(objective.state())
    assert other.temperature() == objective.temperature() != 1.0
