"""Two ranks must equal one rank on the joined batch, and a mismatch must be an error rather than a hang."""

import torch
from torch.nn.functional import cross_entropy

from mcontriever import ranks
from mcontriever.errors import RunError
from tests.two_ranks import on_two_ranks

ROWS = 3


def rows_and_weights() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2 * ROWS, 5, generator=generator), torch.randn(5, 4, generator=generator)


def loss_of(rows_BH: torch.Tensor, weights: torch.Tensor, first: int) -> torch.Tensor:
    """Each row must find itself, squared, among those of all ranks."""
    mapped = rows_BH @ weights
    everyone = ranks.gather_with_grad(mapped.square())
    return cross_entropy(mapped @ everyone.T, torch.arange(first, first + len(rows_BH)))


def gradient_of_my_rows() -> torch.Tensor:
    rows, weights = rows_and_weights()
    weights.requires_grad_()
    first = ranks.rank() * ROWS
    loss_of(rows[first : first + ROWS], weights, first).backward()
    return weights.grad


def test_gradients_averaged_over_two_ranks_equal_those_of_the_joined_batch() -> None:
    rows, weights = rows_and_weights()
    weights.requires_grad_()
    loss_of(rows, weights, 0).backward()
    of_ranks = on_two_ranks(gradient_of_my_rows)
    assert not torch.allclose(of_ranks[0], of_ranks[1])
    torch.testing.assert_close(sum(of_ranks) / 2, weights.grad)


def gathered_and_told() -> tuple[list[int], float, object, bool, int]:
    ranks.barrier()
    mine = torch.tensor([10, 11]) + 10 * ranks.rank()
    average = ranks.average(torch.tensor(float(ranks.rank())))
    told = ranks.broadcast_object({"from": ranks.rank()})
    return ranks.gather(mine).tolist(), average.item(), told, ranks.is_main(), ranks.world_size()


def test_gathers_come_in_rank_order_and_rank_0_speaks_for_all() -> None:
    expected = ([10, 11, 20, 21], 0.5, {"from": 0})
    assert on_two_ranks(gathered_and_told) == [(*expected, True, 2), (*expected, False, 2)]


def gather_unequal_rows() -> str:
    try:
        ranks.gather(torch.zeros(2 + ranks.rank(), 7))
    except RunError as error:
        return str(error)
    return ""


def test_unequal_rows_are_refused_on_every_rank() -> None:
    for message in on_two_ranks(gather_unequal_rows):
        assert "rank 0 has [2, 7], rank 1 has [3, 7]" in message
        assert "same number of rows" in message


def test_one_process_needs_no_group() -> None:
    rows = torch.ones(2, 3, requires_grad=True)
    assert ranks.gather_with_grad(rows) is rows
    assert not ranks.gather(rows).requires_grad
    assert (ranks.rank(), ranks.world_size(), ranks.is_main()) == (0, 1, True)
    assert ranks.broadcast_object("x") == "x"
