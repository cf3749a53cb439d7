"""InfoNCE of a batch against any number of keys, a chunk of keys at a time.

With s+ the score of the positive and L the logsumexp of the negatives' scores, the loss of a query is
softplus(L - s+). That is cross-entropy over [positive, negatives], but its gradient stays precise where the positive
dominates: cross-entropy in float32 loses its digits in 1 - p.

L and its gradient come from the same pass: besides the running sum of exp(score), the pass keeps the running sum of
exp(score) * key, and their quotient *is* the gradient of L with respect to the scaled query. So backward reads no key
again, and memory holds one chunk of scores.

Products are as precise as the keys are stored. float32 keys: exact to 1e-5. bfloat16 keys: sums in float32 on CUDA,
but rounded to bfloat16 on the CPU, where the gradient is accurate to 1e-4 over many negatives of similar weight, and
only to 1e-2 if a few hard ones dominate.

Shapes: B queries, n positives of each, K keys, H hidden, C keys of a chunk.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import softplus

from mcontriever.cpu_operators import multiply_float32

CHUNK_KEYS = 2048
ANY_LANGUAGE = -1
LOWEST = -1e30  # below every score but finite, so that its difference with -inf is not NaN
TIE = {torch.float32: 1e-5, torch.bfloat16: 2.0**-8}


@dataclass(frozen=True, eq=False)
class Negatives:
    """Keys without gradient. A query is not contrasted with keys of its own text or, if asked, of other languages."""

    keys_KH: torch.Tensor
    text_K: torch.Tensor
    language_K: torch.Tensor


@dataclass(frozen=True, eq=False)
class Contrast:
    """`scores` are similarities, not yet divided by the temperature; `correct` means above all negatives."""

    loss_Bn: torch.Tensor
    correct_Bn: torch.Tensor
    positive_scores_Bn: torch.Tensor
    negative_score_B: torch.Tensor
    negatives_B: torch.Tensor


def infonce(
    queries_BH: torch.Tensor,
    positives_BnH: torch.Tensor,
    negatives: Sequence[Negatives],
    scale: float | torch.Tensor,
    *,
    text_B: torch.Tensor,
    language_B: torch.Tensor | None = None,
) -> Contrast:
    """`scale` is 1 / temperature. `language_B`: the language of a query's negatives (ANY_LANGUAGE: all)."""
    with torch.autocast(queries_BH.device.type, enabled=False):
        queries_BH, positives_BnH = queries_BH.float(), positives_BnH.float()
        positive_scores_Bn = (queries_BH[:, None] * positives_BnH).sum(-1)
        logsumexp_B, highest_B, mean_B, count_B = _NegativeLogSumExp.apply(
            queries_BH, scale, negatives, text_B, language_B
        )
        loss_Bn = softplus(logsumexp_B[:, None] - positive_scores_Bn * scale)
        with torch.no_grad():
            dtype = negatives[0].keys_KH.dtype
            like_negatives_Bn = (queries_BH.to(dtype).float()[:, None] * positives_BnH.to(dtype).float()).sum(-1)
            margin_B = TIE[dtype] * like_negatives_Bn.abs().amax(1)
            correct_Bn = like_negatives_Bn > (highest_B / scale + margin_B)[:, None]
    return Contrast(loss_Bn, correct_Bn, positive_scores_Bn.detach(), mean_B, count_B)


class _NegativeLogSumExp(torch.autograd.Function):
    """(logsumexp of scaled scores, highest scaled score, mean score, count) of each query's negatives."""

    @staticmethod
    def forward(
        ctx: Any,
        queries_BH: torch.Tensor,
        scale: float | torch.Tensor,
        negatives: Sequence[Negatives],
        text_B: torch.Tensor,
        language_B: torch.Tensor | None,
    ) -> tuple[torch.Tensor, ...]:
        scaled_BH = queries_BH * scale
        highest_B1 = torch.full_like(queries_BH[:, :1], LOWEST)
        weight_B1, total_B = torch.zeros_like(highest_B1), torch.zeros_like(highest_B1[:, 0])
        weighted_BH = torch.zeros_like(queries_BH)
        count_B = torch.zeros_like(total_B)
        for keys_CH, blocked_BC in _chunks(negatives, text_B, language_B):
            scores_BC = _products(scaled_BH, keys_CH)
            total_B += _sum_allowed(scores_BC, blocked_BC)
            count_B += scores_BC.shape[1] if blocked_BC is None else (~blocked_BC).sum(1)
            new_highest_B1 = torch.maximum(highest_B1, scores_BC.amax(1, keepdim=True))
            shrink_B1 = (highest_B1 - new_highest_B1).exp_()
            weights_BC = scores_BC.sub_(new_highest_B1).exp_()
            weight_B1.mul_(shrink_B1).add_(weights_BC.sum(1, keepdim=True))
            weighted_BH.mul_(shrink_B1).add_(_products(weights_BC, keys_CH.T))
            highest_B1 = new_highest_B1
        ctx.save_for_backward(queries_BH, weighted_BH.div_(weight_B1.clamp_min(torch.finfo(torch.float32).tiny)))
        ctx.scale = scale
        logsumexp_B = (highest_B1 + weight_B1.log())[:, 0]
        others = (highest_B1[:, 0], total_B / scale / count_B.clamp_min(1), count_B)
        ctx.mark_non_differentiable(*others)
        return logsumexp_B, *others

    @staticmethod
    def backward(ctx: Any, grad_B: torch.Tensor, *_: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        queries_BH, expected_key_BH = ctx.saved_tensors
        grad_B1 = grad_B[:, None]
        grad_scale = (grad_B1 * queries_BH * expected_key_BH).sum() if ctx.needs_input_grad[1] else None
        return grad_B1 * expected_key_BH * ctx.scale, grad_scale, None, None, None


def _chunks(negatives: Sequence[Negatives], text_B: torch.Tensor, language_B: torch.Tensor | None) -> Any:
    """Each chunk of keys, and which of them are not negatives of each query (None: all are negatives)."""
    for part in negatives:
        has_own_text_K = _is_in(part.text_K, text_B)
        chunks_with_own_text = set((has_own_text_K.nonzero()[:, 0] // CHUNK_KEYS).tolist())
        for number, start in enumerate(range(0, len(part.keys_KH), CHUNK_KEYS)):
            chunk = slice(start, start + CHUNK_KEYS)
            blocked_BC = None
            if number in chunks_with_own_text:
                blocked_BC = text_B[:, None] == part.text_K[chunk]
            if language_B is not None:
                foreign_BC = language_B[:, None] != part.language_K[chunk]
                foreign_BC &= (language_B != ANY_LANGUAGE)[:, None]
                blocked_BC = foreign_BC if blocked_BC is None else blocked_BC | foreign_BC
            yield part.keys_KH[chunk], blocked_BC


def _is_in(values_K: torch.Tensor, wanted_B: torch.Tensor) -> torch.Tensor:
    ordered_B = wanted_B.sort().values
    places_K = torch.searchsorted(ordered_B, values_K).clamp_max_(len(ordered_B) - 1)
    return ordered_B[places_K] == values_K


def _sum_allowed(scores_BC: torch.Tensor, blocked_BC: torch.Tensor | None) -> torch.Tensor:
    """Sum the allowed scores, then set the blocked ones to -inf."""
    if blocked_BC is None:
        return scores_BC.sum(1)
    total_B = scores_BC.masked_fill_(blocked_BC, 0.0).sum(1)
    scores_BC.masked_fill_(blocked_BC, -torch.inf)
    return total_B


def _products(rows_BX: torch.Tensor, keys_YX: torch.Tensor) -> torch.Tensor:
    """rows @ keys.T in float32, computed in the precision of the keys."""
    if keys_YX.dtype == torch.bfloat16:
        if rows_BX.is_cuda:
            return torch.mm(rows_BX.bfloat16(), keys_YX.T, out_dtype=torch.float32)
        return (rows_BX.bfloat16() @ keys_YX.T).float()
    return multiply_float32(rows_BX, keys_YX)
