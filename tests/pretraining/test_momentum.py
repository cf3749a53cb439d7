"""The slow copy moves as arithmetic says, also where bfloat16 weights would stand still."""

from pathlib import Path
from typing import Any

import pytest
import torch

from mcontriever.errors import ConfigError, ModelError
from mcontriever.pretraining import momentum as momentum_module
from mcontriever.pretraining.momentum import MomentumEncoder
from tests.pretraining.tiny_pairs import new_encoder, pair_batch


def move(encoder: Any, seed: int, size: float = 0.1) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in encoder.parameters():
            value += (size * torch.randn(value.shape, generator=generator)).to(value.dtype)


def test_it_follows_by_the_formula_in_groups_of_any_size(encoder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(momentum_module, "GROUP_VALUES", 700)
    slow = MomentumEncoder(encoder, momentum=0.9)
    expected = [value.detach().double() for value in encoder.parameters()]
    for step in range(4):
        move(encoder, step)
        slow.follow(encoder)
        expected = [0.9 * own + 0.1 * new.double() for own, new in zip(expected, encoder.parameters(), strict=True)]
    for own, wanted in zip(slow.encoder.parameters(), expected, strict=True):
        torch.testing.assert_close(own.double(), wanted, rtol=1e-5, atol=1e-6)


def test_it_moves_under_bfloat16_weights(encoder: Any) -> None:
    """A bfloat16 copy at 0.02 with momentum 0.999 never leaves 0.02; ours must reach its goal."""
    with torch.no_grad():
        for value in encoder.parameters():
            value.fill_(0.02)
    slow = MomentumEncoder(encoder, momentum=0.999)
    encoder.to(torch.bfloat16)
    with torch.no_grad():
        for value in encoder.parameters():
            value.fill_(0.05)
    stuck = torch.tensor(0.02, dtype=torch.bfloat16)
    for _ in range(2000):
        slow.follow(encoder)
        stuck.lerp_(torch.tensor(0.05, dtype=torch.bfloat16), 0.001)
    goal = float(torch.tensor(0.05, dtype=torch.bfloat16))
    expected = goal + (0.02 - goal) * 0.999**2000
    for own in slow.encoder.parameters():
        assert own.dtype == torch.float32
        torch.testing.assert_close(own, torch.full_like(own, expected), rtol=1e-4, atol=0)
    assert abs(float(stuck) - 0.02) < 1e-3


def test_keys_have_no_gradient_and_no_dropout_unless_asked(tiny_tokenizer_dir: Path) -> None:
    encoder = new_encoder(tiny_tokenizer_dir)
    for module in encoder.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    batch = pair_batch(encoder, range(4)).keys
    encoder.train()
    quiet, noisy = MomentumEncoder(encoder, momentum=0.9), MomentumEncoder(encoder, momentum=0.9, dropout=True)
    assert torch.equal(quiet.encode(batch), quiet.encode(batch))
    assert not torch.equal(noisy.encode(batch), noisy.encode(batch))
    torch.testing.assert_close(quiet.encode(batch), encoder.eval()(batch).detach())
    assert not quiet.encode(batch).requires_grad
    assert quiet.encoder.tokenizer is encoder.tokenizer


def test_a_bfloat16_computing_copy_keeps_up_with_float32_weights(encoder: Any) -> None:
    slow, exact = (MomentumEncoder(encoder, momentum=0.5, compute_dtype=dtype) for dtype in (torch.bfloat16, None))
    batch = pair_batch(encoder, range(4)).keys
    before = slow.encode(batch)
    move(encoder, 0)
    slow.follow(encoder)
    exact.follow(encoder)
    for rounded, own in zip(slow.computing.parameters(), slow.encoder.parameters(), strict=True):
        assert torch.equal(rounded, own.bfloat16())
    assert (slow.encode(batch) - exact.encode(batch)).norm() < 0.1 * (before - exact.encode(batch)).norm()


def test_momentum_rises_along_a_cosine(encoder: Any) -> None:
    slow = MomentumEncoder(encoder, momentum=0.99, final_momentum=1.0, rise_updates=4)
    seen = []
    for _ in range(6):
        seen.append(slow.current_momentum())
        slow.follow(encoder)
    assert seen == pytest.approx([0.99, 0.99 + 0.01 * (1 - 0.5**0.5) / 2, 0.995, 0.995 + 0.005 * 0.5**0.5, 1.0, 1.0])


def test_state_comes_back_and_another_model_is_refused(encoder: Any, tiny_tokenizer_dir: Path) -> None:
    slow = MomentumEncoder(encoder, momentum=0.9, compute_dtype=torch.bfloat16)
    move(encoder, 0)
    slow.follow(encoder)
    fresh = MomentumEncoder(new_encoder(tiny_tokenizer_dir), momentum=0.9, compute_dtype=torch.bfloat16)
    fresh.load_state({name: value.clone() for name, value in slow.state().items()})
    batch = pair_batch(encoder, range(4)).keys
    assert torch.equal(fresh.encode(batch), slow.encode(batch))
    assert fresh.updates == 1
    state = slow.state()
    state.pop("backbone.embeddings.word_embeddings.weight")
    with pytest.raises(
        ModelError, match=r"1 weights differ, the first is backbone\.embeddings\.word_embeddings\.weight"
    ):
        fresh.load_state(state)


def test_settings_that_cannot_be_are_refused(encoder: Any) -> None:
    with pytest.raises(ConfigError, match=r"momentum 1\.5 is not between 0 and 1"):
        MomentumEncoder(encoder, momentum=1.5)
    with pytest.raises(ConfigError, match=r"needs both final_momentum \(found 1.0\) and rise_updates \(found 0\)"):
        MomentumEncoder(encoder, momentum=0.9, final_momentum=1.0)
