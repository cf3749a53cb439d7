"""Sub-batches give the gradient of the whole while holding the activations of a part."""

import weakref
from typing import Any

import numpy as np
import pytest
import torch

from mcontriever.encoder.sub_batches import encode_in_sub_batches
from mcontriever.tokens import PackedBatch, SpecialTokens, pack

SPECIAL = SpecialTokens(begin_id=0, end_id=2, pad_id=1, mask_id=3, unknown_id=4)


class Squares(torch.nn.Module):
    """A stand-in whose activations can be counted: mean of squared embeddings of each row, with dropout."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embeddings = torch.nn.Embedding(50, 6)
        self.dropout = torch.nn.Dropout(0.5)
        self.alive: list[weakref.ref[torch.Tensor]] = []
        self.most_tokens_alive = 0

    def forward(self, batch: PackedBatch) -> torch.Tensor:
        activation_TH = torch.tanh(self.dropout(self.embeddings(batch.token_ids_T)))
        self.alive.append(weakref.ref(activation_TH))
        self.most_tokens_alive = max(
            self.most_tokens_alive,
            sum(len(ref()) for ref in self.alive if ref() is not None),  # type: ignore[arg-type]
        )
        rows = torch.repeat_interleave(batch.lengths_N.long())
        return activation_TH.new_zeros(len(batch), 6).index_add(0, rows, activation_TH.square())


def packed(rows: int) -> PackedBatch:
    lengths = np.random.default_rng(0).integers(1, 9, size=rows)
    return pack(np.random.default_rng(1).integers(5, 50, size=lengths.sum()), lengths, SPECIAL, 2, 32)


def gradient(model: Squares, batch: PackedBatch, rows: int | None) -> tuple[torch.Tensor, torch.Tensor]:
    model.zero_grad()
    embeddings = encode_in_sub_batches(model, batch, rows)
    (embeddings @ embeddings.T).logsumexp(1).sum().backward()
    return embeddings.detach(), model.embeddings.weight.grad.clone()


@pytest.mark.parametrize("rows", [1, 4, 5, 20, 100])
def test_embeddings_and_gradient_equal_the_whole(rows: int) -> None:
    model, batch = Squares().eval(), packed(20)
    for found, expected in zip(gradient(model, batch, rows), gradient(model, batch, None), strict=True):
        torch.testing.assert_close(found, expected)


def test_dropout_is_the_same_when_activations_are_made_again() -> None:
    """The gradient by finite differences under one mask: a new mask in the recomputation would give another."""
    model, batch = Squares().train(), packed(6)

    def loss() -> torch.Tensor:
        torch.manual_seed(3)
        return encode_in_sub_batches(model, batch, 2).square().sum()

    model.double()
    loss().backward()
    weight = model.embeddings.weight
    token, step = int(batch.token_ids_T[1]), 1e-3
    with torch.no_grad():
        weight[token, 0] += step
        above = float(loss())
        weight[token, 0] -= 2 * step
        below = float(loss())
    assert float(weight.grad[token, 0]) == pytest.approx((above - below) / (2 * step), rel=1e-2)


def test_activations_of_one_sub_batch_are_alive_at_a_time() -> None:
    model, batch = Squares().eval(), packed(40)
    gradient(model, batch, 4)
    longest = max(int(part.token_ids_T.shape[0]) for part in batch.split([4] * 10))
    assert model.most_tokens_alive <= 2 * longest < batch.token_ids_T.shape[0] / 3
    model.alive.clear()
    gradient(model, batch, None)
    assert model.most_tokens_alive == batch.token_ids_T.shape[0]


def test_no_graph_is_needed_to_look(tiny_encoder_dir: Any) -> None:
    from mcontriever.encoder import Encoder

    encoder = Encoder.load(tiny_encoder_dir)
    lengths = np.array([3, 4, 5])
    batch = pack(np.arange(5, 17), lengths, encoder.special, encoder.first_position, 32)
    with torch.no_grad():
        torch.testing.assert_close(encode_in_sub_batches(encoder, batch, 2), encoder(batch))
