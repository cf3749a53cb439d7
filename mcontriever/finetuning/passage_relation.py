"""PAIR: a query is nearer to its positive than to other passages, and the positive is nearer to the query than to them.

    loss = (1 - alpha) * L_Q + alpha * L_P

L_Q is the contrastive loss. In L_P the positive must find its query. PAIR's paper and its authors' code differ in what
it must find it among, so `passage_negatives` chooses:

    all      all other queries and passages of the batch
    paper    all other passages
    code     all other queries, and the query's own hard negatives

PAIR uses the loss in its pre-training stage, with alpha 0.1, and plain L_Q afterwards. In all three, texts known to
belong together are no negatives.

Shapes: B queries of this rank, Q queries of all ranks, G passages of all ranks.
"""

from typing import Literal

import torch

from mcontriever.config.sections import AboveZero, Share
from mcontriever.finetuning.candidates import Candidates, own_passages
from mcontriever.finetuning.contrastive import blind_loss, info_nce, scores_of, without_high_scores
from mcontriever.finetuning.loss import Loss, Metrics
from mcontriever.finetuning.triples import TripleBatch
from mcontriever.ranks import gather, gather_with_grad, rank


class PassageRelation(Loss):
    """(1 - alpha) times the query's loss, alpha times the passage's."""

    kind: Literal["passage_relation"] = "passage_relation"
    temperature: AboveZero
    alpha: Share = 0.1
    passage_negatives: Literal["all", "paper", "code"] = "all"
    false_negative_margin: float | None = None

    def __call__(self, candidates: Candidates, batch: TripleBatch) -> tuple[torch.Tensor, Metrics]:
        scores_BG = scores_of(candidates.queries_BH, candidates.passages_GH)
        negative_BG = without_high_scores(candidates, scores_BG, self.false_negative_margin)
        query_loss = info_nce(scores_BG / self.temperature, candidates.own_BG, negative_BG).mean()
        blind_passage_loss, passage_loss = self._passage_loss(candidates, batch, negative_BG)
        blind = (1 - self.alpha) * blind_loss(negative_BG) + self.alpha * blind_passage_loss
        return (1 - self.alpha) * query_loss + self.alpha * passage_loss, {
            "query_loss": query_loss.detach(),
            "passage_loss": passage_loss.detach(),
            "blind_loss": blind,
            "temperature": self.temperature,
        }

    def _passage_loss(
        self, candidates: Candidates, batch: TripleBatch, negative_BG: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(loss of a blind model, loss). Columns: the queries of all ranks, then the passages of all ranks."""
        queries_QH = gather_with_grad(candidates.queries_BH)
        scores_BQ = scores_of(candidates.positives_BH, queries_QH)
        scores_BG = scores_of(candidates.positives_BH, candidates.passages_GH)
        own_BQ = _own_queries(len(batch.queries), scores_BQ.shape[1], scores_BQ.device)
        stranger_BQ = ~own_BQ & ~_answers_too(batch)
        if self.passage_negatives == "paper":
            stranger_BQ = torch.zeros_like(stranger_BQ)
        elif self.passage_negatives == "code":
            negative_BG = negative_BG & own_passages(candidates.own_BG, batch)
        negatives = torch.cat([stranger_BQ, negative_BG], dim=1)
        loss_B = info_nce(
            torch.cat([scores_BQ, scores_BG], dim=1) / self.temperature,
            torch.cat([own_BQ, torch.zeros_like(negative_BG)], dim=1),
            negatives,
        )
        return blind_loss(negatives), loss_B.mean()


def _own_queries(rows: int, queries: int, device: torch.device) -> torch.Tensor:
    own_B = rank() * rows + torch.arange(rows, device=device)
    return own_B[:, None] == torch.arange(queries, device=device)


def _answers_too(batch: TripleBatch) -> torch.Tensor:
    """BQ: whether this rank's positive b is a known positive of query q of any rank."""
    positive_key_B = batch.passage_keys_P[:: batch.passages_per_query]
    known_QK = gather(batch.known_positives_BK)
    answers_BQ = torch.zeros(len(positive_key_B), known_QK.shape[0], dtype=torch.bool, device=known_QK.device)
    for key_Q in known_QK.unbind(dim=1):
        answers_BQ |= positive_key_B[:, None] == key_Q
    return answers_BQ
