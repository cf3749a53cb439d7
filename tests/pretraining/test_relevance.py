"""Relevance weights, and the objective that they make, against the formula."""

from typing import Any

import pytest
import torch

from mcontriever.errors import ConfigError
from mcontriever.pretraining.relevance import relevance_objective, relevance_weights, shares_of_batch
from mcontriever.pretraining.temperature import Temperature
from tests.pretraining.naive import naive_infonce
from tests.pretraining.tiny_pairs import gradients, pair_batch, push_back

SCORES = torch.tensor([[0.2, 0.6], [-0.5, 0.3], [-1.0, -2.0], [0.0, 0.0]])


def test_clamped_weights_are_shares_and_never_negative() -> None:
    expected = torch.tensor([[0.25, 0.75], [0.0, 1.0], [0.5, 0.5], [0.5, 0.5]])
    torch.testing.assert_close(relevance_weights("clamp")(SCORES), expected)


def test_softmax_weights_are_softmax() -> None:
    torch.testing.assert_close(relevance_weights("softmax")(SCORES), torch.softmax(SCORES, 1))


def test_other_weights_are_refused() -> None:
    with pytest.raises(ConfigError, match="relevance weights must be one of clamp, softmax, are 'raw'"):
        relevance_weights("raw")


@pytest.mark.parametrize("kind", ["clamp", "softmax"])
def test_the_loss_is_the_weighted_mean_over_keys_and_weights_have_no_gradient(encoder: Any, kind: str) -> None:
    objective = relevance_objective(encoder, weights=kind, temperature=Temperature(0.1), queue_size=20)
    objective(pair_batch(encoder, range(100, 106), keys_per_query=3))
    objective.after_update()
    batch = pair_batch(encoder, range(4), keys_per_query=3)
    loss, _ = objective(batch)
    loss.backward()
    found = gradients(encoder)

    queries = encoder(batch.queries).detach().double().requires_grad_()
    keys = objective.momentum.encode(batch.keys).double().unflatten(0, (4, 3))
    negatives = list(objective.queue.negatives().keys_KH.double())
    assert len(negatives) == 18
    expected = torch.zeros((), dtype=torch.float64)
    for query, own in zip(queries, keys, strict=True):
        scores = [float(query.detach().dot(key)) for key in own]
        raw = [max(score, 0) for score in scores] if kind == "clamp" else torch.tensor(scores).exp().tolist()
        for key, weight in zip(own, raw, strict=True):
            expected = expected + weight / sum(raw) * naive_infonce(query, key, negatives, 0.1) / 4
    expected.backward()
    torch.testing.assert_close(loss.detach().double(), expected.detach(), rtol=1e-4, atol=0)
    torch.testing.assert_close(found, push_back(encoder, batch.queries, queries.grad), rtol=2e-3, atol=2e-5)


def test_the_mean_over_pairs_is_the_mean_over_queries_divided_by_their_keys(encoder: Any) -> None:
    """ReContriever's code sums weight x loss over all pairs of the batch and divides by their number."""
    losses = []
    for mean_over_pairs in (False, True):
        objective = relevance_objective(
            encoder, temperature=Temperature(0.1), queue_size=20, mean_over_pairs=mean_over_pairs
        ).eval()
        objective(pair_batch(encoder, range(100, 106), keys_per_query=3))
        objective.after_update()
        loss, metrics = objective(pair_batch(encoder, range(4), keys_per_query=3))
        losses.append((float(loss.detach()), float(metrics["blind_loss"])))
    assert losses[1] == pytest.approx([value / 3 for value in losses[0]])


def test_shares_of_the_batch_against_a_loop() -> None:
    """The seed's ablation: one pair a document, its weight is its share of the scores of all pairs."""
    scores = [0.2, -0.5, 0.6, 0.0]
    found_B1 = shares_of_batch(relevance_weights("clamp"), torch.tensor(scores)[:, None])
    total = sum(max(score, 0) for score in scores)
    assert found_B1.flatten().tolist() == pytest.approx([len(scores) * max(score, 0) / total for score in scores])
    found_Bn = shares_of_batch(relevance_weights("softmax"), SCORES)
    assert float(found_Bn.sum()) == pytest.approx(len(SCORES))
    torch.testing.assert_close(found_Bn / len(SCORES), torch.softmax(SCORES.flatten(), 0).reshape(SCORES.shape))


@torch.no_grad()
def test_weights_over_the_batch_sum_up_weighted_losses(encoder: Any) -> None:
    objective = relevance_objective(encoder, over_batch=True, temperature=Temperature(0.1), queue_size=20)
    objective(pair_batch(encoder, range(100, 106)))
    objective.after_update()
    batch = pair_batch(encoder, range(4))
    loss, _ = objective(batch)
    queries, keys = encoder(batch.queries).double(), objective.momentum.encode(batch.keys).double()
    scores = [max(float(query.dot(key)), 0) for query, key in zip(queries, keys, strict=True)]
    negatives = list(objective.queue.negatives().keys_KH.double())
    expected = sum(
        score / sum(scores) * float(naive_infonce(query, key, negatives, 0.1))
        for score, query, key in zip(scores, queries, keys, strict=True)
    )
    assert float(loss) == pytest.approx(expected, rel=1e-4)
