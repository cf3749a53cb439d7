"""The fine-tuning loss: a query against its positive, its own negatives, and the passages of all other queries.

    loss = -log( exp(s(q, p+) / t) / (exp(s(q, p+) / t) + sum over negatives of exp(s(q, p) / t)) )

Passages of all ranks are negatives, except those known to answer the query and those with the text of such a passage.
Shapes: B queries, G passages of all ranks, H hidden.
"""

import typing
from typing import Any, Literal

import pydantic
import torch
from torch.nn.functional import normalize, softplus

from mcontriever.config.sections import AboveZero, Count
from mcontriever.errors import ConfigError
from mcontriever.finetuning.candidates import Candidates
from mcontriever.finetuning.loss import Loss, Metrics
from mcontriever.finetuning.triples import TripleBatch


class Contrastive(Loss):
    """`false_negative_margin` excludes negatives whose score exceeds the positive's by more than this margin.

    Each of `dimensions` is trained to work alone (Matryoshka); their losses are averaged with that of the whole.
    """

    kind: Literal["contrastive"] = "contrastive"
    temperature: AboveZero
    false_negative_margin: float | None = None
    dimensions: list[Count] = []
    _normalized: bool = pydantic.PrivateAttr(default=False)  # vectors have length one, so their parts must too

    def for_encoder(self, encoder: Any) -> typing.Self:
        too_long = [size for size in self.dimensions if size >= encoder.dimension]
        if too_long:
            raise ConfigError(
                f"objective.dimensions has {too_long[0]}, the encoder has {encoder.dimension} dimensions",
                fix=f"give numbers below {encoder.dimension}; the whole embedding is always trained",
            )
        loss = self.model_copy()
        loss._normalized = encoder.normalize
        return loss

    def __call__(self, candidates: Candidates, batch: TripleBatch) -> tuple[torch.Tensor, Metrics]:
        losses = [self._loss(candidates.queries_BH, candidates.passages_GH, candidates)]
        for dimension in self.dimensions:
            queries, passages = candidates.queries_BH[:, :dimension], candidates.passages_GH[:, :dimension]
            if self._normalized:
                queries, passages = normalize(queries, dim=-1), normalize(passages, dim=-1)
            losses.append(self._loss(queries, passages, candidates))
        metrics: Metrics = {"blind_loss": blind_loss(candidates.negative_BG), "temperature": self.temperature}
        return torch.stack(losses).mean(), metrics

    def _loss(self, queries_BH: torch.Tensor, passages_GH: torch.Tensor, candidates: Candidates) -> torch.Tensor:
        scores_BG = scores_of(queries_BH, passages_GH)
        negative_BG = without_high_scores(candidates, scores_BG, self.false_negative_margin)
        return info_nce(scores_BG / self.temperature, candidates.own_BG, negative_BG).mean()


def scores_of(left_BH: torch.Tensor, right_GH: torch.Tensor) -> torch.Tensor:
    """Dot products in float32, also under autocast."""
    with torch.autocast(left_BH.device.type, enabled=False):
        return left_BH.float() @ right_GH.float().T


def info_nce(logits_BG: torch.Tensor, own_BG: torch.Tensor, negative_BG: torch.Tensor) -> torch.Tensor:
    """loss_B, by softplus: the gradient stays exact if the positive is far ahead of all negatives."""
    never = torch.finfo(logits_BG.dtype).min / 2
    positive_B = (logits_BG * own_BG).sum(dim=1)
    negatives_B = logits_BG.masked_fill(~negative_BG, never).logsumexp(dim=1)
    return softplus(negatives_B - positive_B)


def blind_loss(negative_BG: torch.Tensor) -> torch.Tensor:
    """The loss of a model that gives all texts the same vector."""
    return negative_BG.sum(dim=1).log1p().mean()


def without_high_scores(candidates: Candidates, scores_BG: torch.Tensor, margin: float | None) -> torch.Tensor:
    """Negatives that score more than the positive plus `margin` are assumed to be unlabelled positives."""
    if margin is None:
        return candidates.negative_BG
    scores_BG = scores_BG.detach()
    positive_B1 = (scores_BG * candidates.own_BG).sum(dim=1, keepdim=True)
    return candidates.negative_BG & (scores_BG <= positive_B1 + margin)
