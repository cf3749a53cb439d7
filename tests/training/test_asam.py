"""ASAM against its published formula, written out in numpy."""

import numpy as np
import pytest
import torch

from mcontriever import ranks
from mcontriever.training.asam import Asam
from tests.two_ranks import on_two_ranks

RHO, ETA = 0.5, 0.01


def model_and_rows() -> tuple[torch.nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1))
    return model, torch.randn(8, 4)


def flat(tensors: list[torch.Tensor]) -> np.ndarray:
    return np.concatenate([tensor.detach().double().numpy().ravel() for tensor in tensors])


def perturbed(model: torch.nn.Module, rows: torch.Tensor, micro_steps: int = 1) -> np.ndarray:
    asam = Asam(model, rho=RHO, eta=ETA)
    asam.ascend([lambda part=part: model(part).square().mean() for part in rows.chunk(micro_steps)])
    return flat(list(model.parameters()))


def test_the_perturbation_follows_the_formula() -> None:
    model, rows = model_and_rows()
    before = flat(list(model.parameters()))
    gradient = flat(list(torch.autograd.grad(model(rows).square().mean(), list(model.parameters()))))
    scale = np.concatenate(
        [
            np.abs(p.detach().double().numpy().ravel()) + ETA if "weight" in name else np.ones(p.numel())
            for name, p in model.named_parameters()
        ]
    )
    expected = before + RHO * scale**2 * gradient / np.linalg.norm(scale * gradient)
    np.testing.assert_allclose(perturbed(model, rows), expected, rtol=1e-5)


def test_micro_steps_make_one_gradient() -> None:
    model, rows = model_and_rows()
    whole = perturbed(model, rows)
    model, rows = model_and_rows()
    np.testing.assert_allclose(perturbed(model, rows, micro_steps=4), whole, rtol=1e-5)


def test_descend_restores_every_bit_and_gradients_are_untouched() -> None:
    model, rows = model_and_rows()
    before = [parameter.detach().clone() for parameter in model.parameters()]
    asam = Asam(model, rho=RHO, eta=ETA)
    asam.ascend([lambda: model(rows).square().mean()])
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))
    asam.descend()
    assert all(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))


def test_the_gradient_at_the_perturbed_weights_is_larger_in_a_sharp_valley() -> None:
    """In a one-dimensional valley w^2 the step goes uphill, so the update sees a steeper slope."""
    valley = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(valley.weight, 1.0)
    loss = lambda: valley(torch.ones(1, 1)).square().mean()  # noqa: E731
    asam = Asam(valley, rho=RHO, eta=ETA)
    asam.ascend([loss])
    assert valley.weight.item() == pytest.approx(1 + RHO * (1 + ETA))


def perturbed_on_my_half() -> np.ndarray:
    model, rows = model_and_rows()
    return perturbed(model, rows.chunk(2)[ranks.rank()])


def test_two_ranks_perturb_as_one_does_on_the_joined_batch() -> None:
    model, rows = model_and_rows()
    whole = perturbed(model, rows)
    for of_rank in on_two_ranks(perturbed_on_my_half):
        np.testing.assert_allclose(of_rank, whole, rtol=1e-5)
