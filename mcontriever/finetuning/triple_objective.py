"""The objective of fine-tuning: one forward for queries and passages, then one of the losses.

    TripleObjective(encoder=encoder, loss=Contrastive(temperature=0.05), rows_per_sub_batch=64)

A loss (loss.py) is called with (candidates, batch) and returns (loss, metrics).
"""

from collections.abc import Mapping
from typing import Any

import torch

from mcontriever.embedding_spread import spread
from mcontriever.encoder.two_encoders import encode_both
from mcontriever.finetuning.candidates import Candidates, candidates_of
from mcontriever.finetuning.contrastive import scores_of
from mcontriever.finetuning.loss import Loss, Metrics
from mcontriever.finetuning.triples import TripleBatch
from mcontriever.tokens import PackedBatch


class TripleObjective(torch.nn.Module):
    """Keeps nothing between steps, so nothing is updated after one, or stored in a checkpoint."""

    def __init__(self, *, encoder: Any, loss: Loss, rows_per_sub_batch: int | None = None) -> None:
        super().__init__()
        self.encoder = encoder
        self.loss = loss.for_encoder(encoder)
        self.rows_per_sub_batch = rows_per_sub_batch

    def forward(self, batch: TripleBatch) -> tuple[torch.Tensor, Metrics]:
        return self.score(encode_both(self.encoder, batch.queries, batch.passages, self.rows_per_sub_batch), batch)

    def rows(self, batch: TripleBatch) -> PackedBatch:
        """For an objective that encodes more in the same forward."""
        return PackedBatch.join([batch.queries, batch.passages])

    def score(self, embeddings: torch.Tensor, batch: TripleBatch) -> tuple[torch.Tensor, Metrics]:
        """`embeddings` are those of `rows(batch)`."""
        candidates = candidates_of(embeddings, batch)
        loss, metrics = self.loss(candidates, batch)
        return loss, contrast_metrics(candidates) | metrics

    def after_update(self) -> None:
        pass

    def state(self) -> dict[str, torch.Tensor]:
        return {}

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        assert not state


@torch.no_grad()
def contrast_metrics(candidates: Candidates) -> Metrics:
    scores_BG = scores_of(candidates.queries_BH, candidates.passages_GH)
    return {
        **score_metrics(scores_BG, candidates.own_BG, candidates.negative_BG),
        **spread(candidates.queries_BH.float(), candidates.positives_BH),
    }


@torch.no_grad()
def score_metrics(scores_BG: torch.Tensor, own_BG: torch.Tensor, negative_BG: torch.Tensor) -> Metrics:
    """How well positives are separated from negatives, for any loss; `chance` is the accuracy of a random guess."""
    positive_B = (scores_BG * own_BG).sum(dim=1)
    negatives_B = negative_BG.sum(dim=1)
    best_negative_B = scores_BG.masked_fill(~negative_BG, -torch.inf).amax(dim=1)
    ahead_B = (positive_B - best_negative_B).masked_fill(negatives_B == 0, 0)
    negative_sum = scores_BG.masked_fill(~negative_BG, 0).sum()
    return {
        "accuracy": (positive_B > best_negative_B + 1e-5 * positive_B.abs()).float().mean(),
        "chance": (1 / (1 + negatives_B)).mean(),
        "queries": float(len(scores_BG)),
        "positive_score": positive_B.mean(),
        "negative_score": negative_sum / negatives_B.sum().clamp(min=1),
        "margin": ahead_B.sum() / (negatives_B > 0).sum().clamp(min=1),
    }
