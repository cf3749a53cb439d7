"""Attention over blocks of rows on the CPU, with an explicit backward.

softmax(q k^T / sqrt(D)) v in each row; probabilities in float32, products in the input's type. With batched products it
took less than half the time of torch's fused CPU kernels, forward and backward. Inference in float32 takes a long row
where it lies, without copies or padding: 5 to 30 % less time from 48 tokens on.

Shapes: T tokens, A heads, D head size; in a block R rows of L positions, B = R * A, P of these B at a time.
"""

import math
from typing import Any

import torch

from mcontriever.cpu_operators import softmax_gradient
from mcontriever.encoder.cpu_dropout import apply_bits_, keep_bits
from mcontriever.encoder.row_blocks import Block

LONG_ROW = 48
_SCORES_AT_ONCE = 1 << 17  # half a megabyte, within a core's own cache


def block_attention(
    query_TAD: torch.Tensor, key_TAD: torch.Tensor, value_TAD: torch.Tensor, blocks: list[Block], dropout: float
) -> torch.Tensor:
    """context_TAD, differentiable; `dropout` applies to the probabilities."""
    context_TAD: torch.Tensor = _BlockAttention.apply(query_TAD, key_TAD, value_TAD, blocks, dropout)
    return context_TAD


def attend_in_block(
    query_BLD: torch.Tensor, key_BLD: torch.Tensor, value_BLD: torch.Tensor, block: Block, heads: int
) -> torch.Tensor:
    """The same without gradient or dropout; the queries are already scaled."""
    context_BLD = torch.empty_like(query_BLD)
    for piece in block.pieces(heads):
        probs_PLL = _probabilities(query_BLD[piece], key_BLD[piece], block, piece, heads)
        torch.bmm(probs_PLL, value_BLD[piece], out=context_BLD[piece])
    return context_BLD


def attends_alone(block: Block, dtype: torch.dtype) -> bool:
    """Whether the rows of a block are better taken one by one."""
    return block.shortest >= LONG_ROW and dtype == torch.float32


def attend_in_row(
    query_ALD: torch.Tensor, key_ALD: torch.Tensor, value_ALD: torch.Tensor, into_ALD: torch.Tensor
) -> None:
    """The same for one row; none of the tensors need be contiguous."""
    heads, length, _ = query_ALD.shape
    step = max(1, _SCORES_AT_ONCE // length**2)
    for first in range(0, heads, step):
        some = slice(first, first + step)
        scores_PLL = torch.bmm(query_ALD[some], key_ALD[some].transpose(1, 2))
        torch.bmm(torch.softmax(scores_PLL, -1), value_ALD[some], out=into_ALD[some])


def _probabilities(
    query_PLD: torch.Tensor, key_PLD: torch.Tensor, block: Block, piece: slice, heads: int
) -> torch.Tensor:
    scores_PLL = torch.bmm(query_PLD, key_PLD.transpose(1, 2)).float()
    block.hide_padding_(scores_PLL, piece, heads)
    return torch.softmax(scores_PLL, -1).to(query_PLD.dtype)


class _BlockAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query_TAD: torch.Tensor,
        key_TAD: torch.Tensor,
        value_TAD: torch.Tensor,
        blocks: list[Block],
        dropout: float,
    ) -> torch.Tensor:
        ctx.blocks, ctx.dropout = blocks, dropout
        heads = query_TAD.shape[1]
        context_TAD = torch.empty_like(query_TAD)
        saved: list[torch.Tensor | None] = []
        with torch.autocast("cpu", enabled=False):
            for block in blocks:
                query, key, value = (block.gather(x) for x in (query_TAD, key_TAD, value_TAD))
                query.mul_(_scale(query))
                context = torch.empty_like(query)
                for piece in block.pieces(heads):
                    probs = _probabilities(query[piece], key[piece], block, piece, heads)
                    bits = keep_bits(probs.shape, probs.dtype, dropout) if dropout else None
                    torch.bmm(_dropped(probs, bits, dropout), value[piece], out=context[piece])
                    saved += [query[piece], key[piece], value[piece], probs, bits]
                block.scatter(context, context_TAD)
        if any(ctx.needs_input_grad):
            ctx.save_for_backward(*saved)
        return context_TAD

    @staticmethod
    def backward(ctx: Any, gradient_TAD: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, None, None]:
        gradient_TAD = gradient_TAD.contiguous()
        heads = gradient_TAD.shape[1]
        outputs = [torch.empty_like(gradient_TAD) for _ in range(3)]
        saved = iter(ctx.saved_tensors)  # read only once: checkpointing recomputes at each access
        with torch.autocast("cpu", enabled=False):
            for block in ctx.blocks:
                gradient = block.gather(gradient_TAD)
                block.clear_padding_(gradient)
                parts = [torch.empty_like(gradient) for _ in range(3)]
                for piece in block.pieces(heads):
                    inputs = tuple(next(saved) for _ in range(5))
                    _piece_gradients(gradient[piece], inputs, ctx.dropout, [part[piece] for part in parts])
                parts[0].mul_(_scale(gradient))
                for part, output in zip(parts, outputs, strict=True):
                    block.scatter(part, output)
        return outputs[0], outputs[1], outputs[2], None, None


def _piece_gradients(
    gradient_PLD: torch.Tensor, inputs: tuple[Any, ...], dropout: float, outputs: list[torch.Tensor]
) -> None:
    """Writes the gradients of scaled query, key and value into `outputs`. `inputs` is what forward saved."""
    query_PLD, key_PLD, value_PLD, probs_PLL, bits_PLL = inputs
    used_PLL = _dropped(probs_PLL, bits_PLL, dropout)
    torch.bmm(used_PLL.transpose(1, 2), gradient_PLD, out=outputs[2])
    probs_gradient_PLL = _dropped(torch.bmm(gradient_PLD, value_PLD.transpose(1, 2)), bits_PLL, dropout)
    scores_gradient_PLL = softmax_gradient(probs_gradient_PLL, probs_PLL)
    torch.bmm(scores_gradient_PLL, key_PLD, out=outputs[0])
    torch.bmm(scores_gradient_PLL.transpose(1, 2), query_PLD, out=outputs[1])


def _dropped(values: torch.Tensor, bits: torch.Tensor | None, rate: float) -> torch.Tensor:
    return values if bits is None else apply_bits_(values * (1 / (1 - rate)), bits)


def _scale(values: torch.Tensor) -> float:
    return 1 / math.sqrt(values.shape[-1])
