"""Blocks for attention on the CPU: neighbouring rows of similar length, computed as one padded tensor.

A block converts a range of tokens to padded rows and back, and knows which positions are padding.
Shapes: T tokens, A heads, D head size; in a block R rows of L positions, B = R * A, P of these B at a time.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

WASTE_LIMIT = 0.06  # the share of a block's positions that may be padding
# Scores are computed a few heads at a time, so they stay in the cache and their memory is reused. Larger pieces were up
# to four times slower, because the operating system had to supply fresh pages.
SCORES_PER_PIECE = 1 << 19


@dataclass(frozen=True)
class Block:
    """Rows of `shortest` to `length` tokens, one after the other. Without padding the tensors are None."""

    bounds: tuple[int, ...]  # where each row begins, and the last one ends
    length: int
    shortest: int
    columns: torch.Tensor | None  # [R * L] token of each position, padding points at the first
    padding_RS: torch.Tensor | None  # which of the last S = length - shortest positions are padding
    places: torch.Tensor | None  # [stop - start] position of each token

    @property
    def start(self) -> int:
        return self.bounds[0]

    @property
    def stop(self) -> int:
        return self.bounds[-1]

    @property
    def rows(self) -> int:
        return len(self.bounds) - 1

    def row_slices(self) -> Iterator[slice]:
        """The tokens of each row."""
        return (slice(*pair) for pair in itertools.pairwise(self.bounds))

    def gather(self, values_TAD: torch.Tensor) -> torch.Tensor:
        """[B, L, D], contiguous."""
        return self._rows_of(values_TAD).transpose(1, 2).contiguous().flatten(0, 1)

    def gather_three(self, values_T3AD: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Query, key and value in one copy, each [B, L, D]."""
        return self._rows_of(values_T3AD).permute(2, 0, 3, 1, 4).contiguous().flatten(1, 2).unbind(0)

    def _rows_of(self, values: torch.Tensor) -> torch.Tensor:
        """[T, ...] to [R, L, ...]."""
        values = values[self.start : self.stop]
        if self.columns is not None:
            values = values.index_select(0, self.columns)
        return values.unflatten(0, (self.rows, self.length))

    def scatter(self, values_BLD: torch.Tensor, into_TAD: torch.Tensor) -> None:
        """The inverse of `gather`; padding is dropped."""
        values_RLAD = values_BLD.unflatten(0, (self.rows, -1)).transpose(1, 2)
        target = into_TAD[self.start : self.stop]
        if self.places is None:
            target.view(values_RLAD.shape).copy_(values_RLAD)
        else:
            torch.index_select(values_RLAD.flatten(0, 1), 0, self.places, out=target)

    def pieces(self, heads: int) -> Iterator[slice]:
        """Ranges of B that are computed at a time."""
        step = max(1, SCORES_PER_PIECE // self.length**2)
        for start in range(0, self.rows * heads, step):
            yield slice(start, min(start + step, self.rows * heads))

    def hide_padding_(self, scores_PLL: torch.Tensor, piece: slice, heads: int) -> None:
        """Padding gets no attention. Only the last columns can hold any."""
        if self.padding_RS is not None:
            padding_PS = self.padding_RS.repeat_interleave(heads, 0)[piece]
            scores_PLL[..., self.shortest :].masked_fill_(padding_PS[:, None, :], -math.inf)

    def clear_padding_(self, values_BLD: torch.Tensor) -> None:
        if self.padding_RS is not None:
            tail_RASD = values_BLD.unflatten(0, (self.rows, -1))[:, :, self.shortest :]
            tail_RASD.masked_fill_(self.padding_RS[:, None, :, None], 0)

    def attention_mask(self) -> torch.Tensor | None:
        """SDPA's mask: true where a position gets attention."""
        if self.padding_RS is None:
            return None
        always_RP = torch.ones(self.rows, self.shortest, dtype=torch.bool, device=self.padding_RS.device)
        return torch.cat([always_RP, ~self.padding_RS], 1)[:, None, None, :]


def plan_blocks(offsets: torch.Tensor, device: torch.device) -> list[Block]:
    """Rows join a block while at most WASTE_LIMIT of it is padding; sorted rows make few blocks."""
    bounds = offsets.cpu().numpy().astype(np.int64)
    lengths = np.diff(bounds)
    blocks, first = [], 0
    while first < len(lengths):
        last, longest, tokens = first + 1, int(lengths[first]), int(lengths[first])
        while last < len(lengths):
            length = int(lengths[last])
            positions = max(longest, length) * (last + 1 - first)
            if positions - tokens - length > WASTE_LIMIT * positions:
                break
            longest, tokens, last = max(longest, length), tokens + length, last + 1
        blocks.append(_block(bounds[first : last + 1], device))
        first = last
    return blocks


def _block(bounds: np.ndarray, device: torch.device) -> Block:
    lengths = np.diff(bounds)
    shortest, length = int(lengths.min()), int(lengths.max())
    if shortest == length:
        return Block(tuple(bounds.tolist()), length, shortest, None, None, None)
    is_token_RL = np.arange(length) < lengths[:, None]
    columns_RL = np.where(is_token_RL, (bounds[:-1] - bounds[0])[:, None] + np.arange(length), 0)
    columns, padding_RS, places = (
        torch.from_numpy(array).to(device)
        for array in (columns_RL.reshape(-1), ~is_token_RL[:, shortest:], np.flatnonzero(is_token_RL))
    )
    return Block(tuple(bounds.tolist()), length, shortest, columns, padding_RS, places)
