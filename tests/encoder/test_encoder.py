"""The packed forward against Hugging Face's padded one: values, gradients, positions, dropout, precision."""

import copy
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mcontriever.encoder import Encoder
from mcontriever.encoder.cpu_attention import LONG_ROW, attends_alone, block_attention
from mcontriever.encoder.cpu_backbone import attend
from mcontriever.encoder.cpu_dropout import dropout, keep_bits
from mcontriever.encoder.packed_attention import PackedAttention, _padded_sdpa, _varlen
from mcontriever.encoder.row_blocks import plan_blocks
from mcontriever.errors import ModelError
from mcontriever.tokens import PackedBatch, load_tokenizer, pack

SIZE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
PACKED_TYPES = ["xlm-roberta", "roberta", "bert", "camembert"]
MAX_LENGTH = 48

MakeEncoder = Callable[..., Encoder]


@pytest.fixture(scope="module")
def make_encoder(tiny_tokenizer_dir: Path) -> MakeEncoder:
    tokenizer = load_tokenizer(tiny_tokenizer_dir)

    def make(config: dict[str, Any] | None = None, **settings: Any) -> Encoder:
        return Encoder.from_random(SIZE | (config or {}), tokenizer, **{"max_length": MAX_LENGTH, **settings}).eval()

    return make


def random_batch(encoder: Encoder, lengths: list[int], seed: int = 0, first_position: int | None = None) -> PackedBatch:
    token_ids = np.random.default_rng(seed).integers(5, 200, sum(lengths))
    first = encoder.first_position if first_position is None else first_position
    return pack(token_ids, np.array(lengths), encoder.special, first, MAX_LENGTH)


LENGTHS = [1, 0, 46, 7, 7, 60, 30, 31, 29, 2, 46, 12]  # one empty, one truncated, some equal


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("model_type", PACKED_TYPES)
def test_packed_equals_padded(make_encoder: MakeEncoder, model_type: str, pooling: str) -> None:
    encoder = make_encoder({"model_type": model_type, "type_vocab_size": 2}, pooling=pooling)
    batch = random_batch(encoder, LENGTHS)
    assert batch.truncated == 1
    torch.testing.assert_close(encoder(batch), encoder.forward_padded(batch), atol=1e-5, rtol=0)


@pytest.mark.parametrize("seed", range(5))
def test_packed_equals_padded_for_random_lengths(make_encoder: MakeEncoder, seed: int) -> None:
    chance = np.random.default_rng(seed)
    encoder = make_encoder({"num_attention_heads": 2, "hidden_act": "relu"}, seed=seed, normalize=True)
    batch = random_batch(encoder, chance.integers(1, 47, chance.integers(1, 40)).tolist(), seed)
    torch.testing.assert_close(encoder(batch), encoder.forward_padded(batch), atol=1e-5, rtol=0)


@pytest.mark.parametrize("checkpoint_layers", [False, True])
@pytest.mark.parametrize("model_type", ["xlm-roberta", "bert"])
def test_gradients_equal_the_padded_forwards(
    make_encoder: MakeEncoder, model_type: str, checkpoint_layers: bool
) -> None:
    encoder = make_encoder({"model_type": model_type, **NO_DROPOUT}, checkpoint_layers=checkpoint_layers).train()
    batch = random_batch(encoder, LENGTHS)
    direction = torch.randn(len(LENGTHS), 32, generator=torch.Generator().manual_seed(1))
    gradients = []
    for forward in (encoder.forward, encoder.forward_padded):
        encoder.zero_grad(set_to_none=True)
        (forward(batch) * direction).sum().backward()
        gradients.append({name: value.grad.clone() for name, value in encoder.named_parameters()})
    assert len(gradients[0]) == len(list(encoder.parameters()))
    for name, expected in gradients[1].items():
        torch.testing.assert_close(
            gradients[0][name], expected, atol=2e-5, rtol=1e-4, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_positions_begin_where_the_family_begins(make_encoder: MakeEncoder) -> None:
    for model_type, first in (("xlm-roberta", 2), ("roberta", 2), ("bert", 0)):
        encoder = make_encoder({"model_type": model_type})
        assert encoder.first_position == first
        reference = encoder.forward_padded(random_batch(encoder, LENGTHS))
        wrong = encoder(random_batch(encoder, LENGTHS, first_position=2 - first))
        assert (wrong - reference).abs().amax(1).min() > 0.01


def test_a_row_does_not_see_its_neighbours(make_encoder: MakeEncoder) -> None:
    encoder = make_encoder()
    batch = random_batch(encoder, LENGTHS)
    together = encoder(batch)
    alone = torch.cat([encoder(batch.slice(row, row + 1)) for row in range(len(batch))])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_other_architectures_go_through_their_own_forward(make_encoder: MakeEncoder) -> None:
    config = {"model_type": "distilbert", "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64}
    encoder = make_encoder(config)
    batch = random_batch(encoder, LENGTHS)
    input_ids_NL, mask_NL = batch.pad()
    hidden_NLH = encoder.backbone(input_ids=input_ids_NL, attention_mask=mask_NL).last_hidden_state
    for row, length in enumerate(batch.lengths_N.tolist()):
        torch.testing.assert_close(encoder(batch)[row], hidden_NLH[row, :length].mean(0), atol=1e-6, rtol=0)


def naive_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, kept: torch.Tensor, rate: float
) -> torch.Tensor:
    """[A, L, D] of one row in float64, with the given dropout mask [A, L, L]."""
    probs = torch.softmax(query @ key.transpose(1, 2) / query.shape[-1] ** 0.5, -1)
    return (probs * kept / (1 - rate)) @ value


@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_attention_and_its_gradient_equal_a_naive_one_with_the_same_dropout(rate: float) -> None:
    lengths, heads, size = [9, 9, 8, 3, 1], 2, 4
    offsets = torch.tensor([0, *np.cumsum(lengths)], dtype=torch.int32)
    batch = PackedBatch(torch.zeros(sum(lengths)), torch.zeros(sum(lengths)), offsets, 9, 1)
    generator = torch.Generator().manual_seed(0)
    parts = [torch.randn(sum(lengths), heads, size, generator=generator, requires_grad=True) for _ in range(4)]
    torch.manual_seed(5)
    PackedAttention(batch)(parts[0], parts[1], parts[2], rate).mul(parts[3].detach()).sum().backward()
    gradients = [part.grad for part in parts[:3]]

    torch.manual_seed(5)
    total, row = torch.zeros((), dtype=torch.float64), 0
    doubles = [part.detach().double().requires_grad_() for part in parts]
    for block in plan_blocks(offsets, torch.device("cpu")):
        shape = torch.Size((block.rows * heads, block.length, block.length))
        kept = keep_bits(shape, torch.float32, rate).ne(0) if rate else torch.ones(shape, dtype=torch.bool)
        for kept_ALL in kept.view(block.rows, heads, block.length, block.length):
            tokens = slice(int(offsets[row]), int(offsets[row + 1]))
            length = lengths[row]
            query, key, value, weight = (part[tokens].transpose(0, 1) for part in doubles)
            total = total + (naive_attention(query, key, value, kept_ALL[:, :length, :length], rate) * weight).sum()
            row += 1
    assert row == len(lengths)
    total.backward()
    for gradient, double in zip(gradients, doubles, strict=False):
        torch.testing.assert_close(gradient.double(), double.grad, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("lengths", [[LONG_ROW] * 3, [LONG_ROW + 40, LONG_ROW + 9, LONG_ROW, LONG_ROW - 1, 5], [190]])
def test_inference_attends_to_long_rows_where_they_lie(lengths: list[int]) -> None:
    offsets = torch.tensor([0, *np.cumsum(lengths)], dtype=torch.int32)
    blocks = plan_blocks(offsets, torch.device("cpu"))
    heads, size = 6, 4  # more scores than are taken at once, in the longest row
    assert any(attends_alone(block, torch.float32) for block in blocks)
    assert not any(attends_alone(block, torch.bfloat16) for block in blocks)
    projected = torch.randn(sum(lengths), 3 * heads * size, generator=torch.Generator().manual_seed(0))
    context = attend(projected, blocks, heads).view(-1, heads, size)
    parts = projected.double().view(-1, 3, heads, size)
    for start, stop in itertools.pairwise(offsets.tolist()):
        query, key, value = parts[start:stop].permute(1, 2, 0, 3)
        everything = torch.ones(heads, stop - start, stop - start)
        expected = naive_attention(query * size**0.5, key, value, everything, 0.0).transpose(0, 1)
        torch.testing.assert_close(context[start:stop].double(), expected, atol=1e-5, rtol=1e-5)


def test_padded_sdpa_of_a_gpu_without_the_kernel_equals_block_attention() -> None:
    lengths = [9, 9, 8, 3, 1]
    offsets = torch.tensor([0, *np.cumsum(lengths)], dtype=torch.int32)
    query, key, value = (torch.randn(30, 2, 4, generator=torch.Generator().manual_seed(seed)) for seed in range(3))
    blocks = plan_blocks(offsets, torch.device("cpu"))
    assert len(blocks) > 1
    expected = block_attention(query, key, value, blocks, 0.0)
    torch.testing.assert_close(_padded_sdpa(query, key, value, blocks, 0.0), expected)


@pytest.mark.parametrize("rate", [0.0, 0.1])
def test_the_call_of_the_gpus_kernel_has_the_right_form(rate: float) -> None:
    """Shapes and autograd only, on tensors without memory: the kernel itself needs a GPU."""
    query, key, value = (torch.empty(30, 2, 8, device="meta", dtype=torch.bfloat16, requires_grad=True) for _ in "qkv")
    context = _varlen(query, key, value, torch.empty(6, dtype=torch.int32, device="meta"), 9, rate)
    assert context.shape == query.shape
    context.sum().backward()
    assert all(part.grad is not None and part.grad.shape == part.shape for part in (query, key, value))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_fast_dropout_drops_at_its_rate_and_keeps_the_mean(dtype: torch.dtype) -> None:
    values = torch.ones(1000, 1000, dtype=dtype, requires_grad=True)
    torch.manual_seed(0)
    dropped = dropout(values, 0.1)
    zeros = (dropped == 0).float()
    assert abs(zeros.mean() - 0.1) < 0.002  # six standard deviations
    assert zeros.mean(0).std() < 0.02
    assert zeros.mean(1).std() < 0.02
    torch.testing.assert_close(dropped[dropped != 0].float().mean(), torch.tensor(1 / 0.9), atol=4e-3, rtol=0)
    dropped.sum().backward()
    assert torch.equal(values.grad != 0, dropped != 0)
    torch.manual_seed(0)
    assert torch.equal(dropout(values, 0.1), dropped)
    assert not torch.equal(dropout(values, 0.1), dropped)
    assert dropout(values, 0.1, training=False) is values


def test_checkpointing_draws_the_same_dropout_twice(make_encoder: MakeEncoder) -> None:
    gradients = []
    for checkpoint_layers in (False, True):
        encoder = make_encoder({"hidden_dropout_prob": 0.2}, checkpoint_layers=checkpoint_layers).train()
        torch.manual_seed(3)
        encoder(random_batch(encoder, LENGTHS)).square().sum().backward()
        gradients.append(torch.cat([value.grad.flatten() for value in encoder.parameters()]))
    assert torch.equal(*gradients)


def test_bfloat16_by_our_own_autocast_or_by_the_surroundings(make_encoder: MakeEncoder) -> None:
    encoder = make_encoder()
    batch = random_batch(encoder, LENGTHS)
    exact = encoder(batch)
    encoder.compute_dtype = torch.bfloat16
    own = encoder(batch)
    assert own.dtype == torch.float32
    assert not torch.equal(own, exact)
    assert torch.cosine_similarity(own, exact).min() > 0.999
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(encoder(batch), own)
        encoder.compute_dtype = None
        assert torch.equal(encoder(batch), own)
    cast = copy.deepcopy(encoder).to(torch.bfloat16)
    assert torch.cosine_similarity(cast(batch), exact).min() > 0.999


def test_from_random_is_its_seeds_and_leaves_torchs_generator_alone(make_encoder: MakeEncoder) -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    first, again, other = (make_encoder(seed=seed) for seed in (4, 4, 5))
    assert torch.equal(torch.rand(3), expected)
    assert first.fingerprint() == again.fingerprint() != other.fingerprint()


def test_a_deep_copy_has_its_own_weights_and_the_same_tokenizer(make_encoder: MakeEncoder) -> None:
    encoder = make_encoder()
    encoder.embed_queries(["a river"])
    duplicate = copy.deepcopy(encoder)
    assert duplicate.tokenizer is encoder.tokenizer
    with torch.no_grad():
        next(duplicate.parameters()).zero_()
    batch = random_batch(encoder, LENGTHS)
    assert not torch.allclose(duplicate(batch), encoder(batch))
    assert duplicate.fingerprint() != encoder.fingerprint()
    assert not np.allclose(duplicate.embed_queries(["a river"]), encoder.embed_queries(["a river"]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pooling": "max"}, "pooling 'max' is not one of mean, cls"),
        ({"similarity": "euclid"}, "similarity 'euclid' is not one of dot, cosine"),
        ({"precision": "int3"}, "precision 'int3' is not one of auto, float32"),
    ],
)
def test_wrong_settings_are_refused(make_encoder: MakeEncoder, settings: dict[str, str], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        make_encoder(**settings)


def test_sizes_that_do_not_fit_are_refused(make_encoder: MakeEncoder) -> None:
    with pytest.raises(ModelError, match="max_length 48 is not among the backbone's 38 positions"):
        make_encoder({"max_position_embeddings": 40})
    with pytest.raises(ModelError, match="max_length is -1, a text has 1 token or more"):
        make_encoder(max_length=-1)
    encoder = make_encoder()
    with pytest.raises(ModelError, match="max_length -1 is not among the backbone's"):
        Encoder(encoder.backbone, encoder.tokenizer, max_length=-1)
    with pytest.raises(ModelError, match="the tokenizer has 220 tokens, the backbone embeddings for 100"):
        make_encoder({"vocab_size": 100})
    with pytest.raises(ModelError, match="unknown architecture"):
        make_encoder({"model_type": "no-such"})


def test_cosine_is_unit_length_and_dot(make_encoder: MakeEncoder) -> None:
    encoder = make_encoder(similarity="cosine")
    norms = encoder(random_batch(encoder, LENGTHS)).norm(dim=1)
    torch.testing.assert_close(norms, torch.ones_like(norms))
