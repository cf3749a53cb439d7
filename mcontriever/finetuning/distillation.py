"""Learn a cross-encoder's scores for a query's own passages: its margins (margin-MSE) or its ranking (KL).

    margin_mse   mean over negatives of ((s(q, p+) - s(q, p-)) / t - (teacher(q, p+) - teacher(q, p-)) / t_teacher)^2
    kl           KL( softmax(teacher / t_teacher) || softmax(s / t) ) over the positive and the negatives

A cosine is between -1 and 1, a teacher's logits between -10 and 10: use a temperature t of 0.05 to 0.1. Dot products
learn their own scale, with t = 1. Passages without a teacher's score (random negatives) count only in the contrastive
loss, if it has a weight.

Shapes: B queries, m = 1 + n passages of each, the positive first, G passages of all ranks.
"""

import typing
from typing import Any, Literal

import pydantic
import torch

from mcontriever.config.sections import AboveZero
from mcontriever.errors import RunError
from mcontriever.finetuning.candidates import Candidates, own_passages
from mcontriever.finetuning.contrastive import blind_loss, info_nce, scores_of
from mcontriever.finetuning.loss import Loss, Metrics
from mcontriever.finetuning.maxsim import InBatchTeacher
from mcontriever.finetuning.triples import TripleBatch
from mcontriever.ranks import average


class Distillation(Loss):
    """From a teacher's scores in the examples (`mine` with a cross_encoder writes them).

    `in_batch_teacher` is a late-interaction model, trained here with the student's tokenizer. Its margins between a
    query's positive and the passages of all other queries are learned too (TAS-B's dual supervision).
    """

    kind: Literal["distillation"] = "distillation"
    loss: Literal["margin_mse", "kl"] = "margin_mse"
    temperature: AboveZero = 1.0
    teacher_temperature: AboveZero = 1.0
    contrastive_weight: float = pydantic.Field(default=0.0, ge=0)
    in_batch_teacher: str | None = None
    in_batch_weight: AboveZero = 0.75
    _teacher: Any = pydantic.PrivateAttr(default=None)

    @property
    def needs_scores(self) -> bool:
        return True

    def for_encoder(self, encoder: Any) -> typing.Self:
        loss = self.model_copy()
        if self.in_batch_teacher is not None:
            loss._teacher = InBatchTeacher.load(self.in_batch_teacher, encoder)
        return loss

    def __call__(self, candidates: Candidates, batch: TripleBatch) -> tuple[torch.Tensor, Metrics]:
        queries_BH = candidates.queries_BH.float()
        passages_BmH = candidates.passages_PH.float().unflatten(0, (len(queries_BH), -1))
        scores_Bm = torch.einsum("bh,bmh->bm", queries_BH, passages_BmH)
        teacher_Bm = batch.scores_P.unflatten(0, (len(queries_BH), -1)) / self.teacher_temperature
        loss_of = margin_mse if self.loss == "margin_mse" else _kl
        loss, blind = (
            loss_of(scores / self.temperature, teacher_Bm) for scores in (scores_Bm, torch.zeros_like(scores_Bm))
        )
        metrics: Metrics = {"distillation_loss": loss.detach()}
        scores_BG = scores_of(candidates.queries_BH, candidates.passages_GH)
        if self.contrastive_weight:
            contrast_B = info_nce(scores_BG / self.temperature, candidates.own_BG, candidates.negative_BG)
            loss = loss + self.contrastive_weight * contrast_B.mean()
            blind = blind + self.contrastive_weight * blind_loss(candidates.negative_BG)
        if self._teacher is not None:
            wanted_BG = self._teacher.scores(batch) / self.teacher_temperature
            others_BG = candidates.negative_BG & ~own_passages(candidates.own_BG, batch)
            in_batch, blind_in_batch = (
                in_batch_margins(scores / self.temperature, wanted_BG, candidates.own_BG, others_BG)
                for scores in (scores_BG, torch.zeros_like(scores_BG))
            )
            loss, blind = loss + self.in_batch_weight * in_batch, blind + self.in_batch_weight * blind_in_batch
            metrics["in_batch_loss"] = in_batch.detach()
        return loss, metrics | {"blind_loss": blind, "temperature": self.temperature}


def margin_mse(scores_Bm: torch.Tensor, teacher_Bm: torch.Tensor) -> torch.Tensor:
    margins_Bn, wanted_Bn = scores_Bm[:, :1] - scores_Bm[:, 1:], teacher_Bm[:, :1] - teacher_Bm[:, 1:]
    known_Bn = wanted_Bn.isfinite()
    errors_Bn = (margins_Bn - wanted_Bn.masked_fill(~known_Bn, 0)).square() * known_Bn
    return errors_Bn.sum() / _mean_count(known_Bn)


def in_batch_margins(
    scores_BG: torch.Tensor, wanted_BG: torch.Tensor, own_BG: torch.Tensor, others_BG: torch.Tensor
) -> torch.Tensor:
    """The mean over the passages of other queries, as in TAS-B's code; its paper has their sum for each query."""
    margins_BG, wanted_margins_BG = (
        (values_BG * own_BG).sum(dim=1, keepdim=True) - values_BG for values_BG in (scores_BG, wanted_BG)
    )
    return ((margins_BG - wanted_margins_BG).square() * others_BG).sum() / _mean_count(others_BG)


def _kl(scores_Bm: torch.Tensor, teacher_Bm: torch.Tensor) -> torch.Tensor:
    known_Bm = teacher_Bm.isfinite()
    counted_B = known_Bm[:, 0] & (known_Bm.sum(dim=1) > 1)
    never = torch.finfo(scores_Bm.dtype).min / 2
    log_model_Bm = scores_Bm.masked_fill(~known_Bm, never).log_softmax(dim=1)
    log_teacher_Bm = teacher_Bm.masked_fill(~known_Bm, never).log_softmax(dim=1)
    apart_Bm = log_teacher_Bm.exp() * (log_teacher_Bm - log_model_Bm)
    return (apart_Bm.masked_fill(~known_Bm, 0).sum(dim=1) * counted_B).sum() / _mean_count(counted_B)


def _mean_count(counted: torch.Tensor) -> torch.Tensor:
    """The count's mean over ranks: divided by it, the mean of the ranks' losses is the loss of the whole batch."""
    count = average(counted.sum().float())
    if float(count) == 0:
        raise RunError(
            "no pair in the batch has a teacher's score",
            fix="score the examples (mine with a cross_encoder), set data.hard_ratio to 1 and data.negatives above 0",
        )
    return count
