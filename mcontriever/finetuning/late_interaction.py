"""Train a late-interaction model (ColBERT): a teacher for TAS-B, and a row of its own in a benchmark.

    contrastive   the positive against the query's own negatives and the passages of all other queries
    margin_mse    a cross-encoder's margins within the query's own passages, as TAS-B's authors train their teacher

Shapes: B queries, G passages of all ranks, m of each query, T tokens, D dimensions.
"""

from typing import Any, Literal

import torch

from mcontriever.config.sections import AboveZero, Count
from mcontriever.embedding_spread import spread
from mcontriever.encoder.sub_batches import encode_in_sub_batches
from mcontriever.encoder.token_encoder import DIMENSION, TokenEncoder
from mcontriever.finetuning.candidates import own_and_negatives
from mcontriever.finetuning.contrastive import blind_loss, info_nce
from mcontriever.finetuning.distillation import margin_mse
from mcontriever.finetuning.loss import Loss, Metrics
from mcontriever.finetuning.maxsim import scores_with_all_ranks
from mcontriever.finetuning.triple_objective import TripleObjective, score_metrics
from mcontriever.finetuning.triples import TripleBatch
from mcontriever.tokens import PackedBatch


class LateInteraction(Loss):
    """Scores are sums over a query's tokens, so they are between 0 and its length; ColBERT does not scale them."""

    kind: Literal["late_interaction"] = "late_interaction"
    loss: Literal["contrastive", "margin_mse"] = "contrastive"
    temperature: AboveZero = 1.0
    teacher_temperature: AboveZero = 1.0
    dimension: Count = DIMENSION  # of a token's vector

    @property
    def needs_scores(self) -> bool:
        return self.loss == "margin_mse"

    def objective(self, encoder: Any) -> "LateInteractionObjective":
        return LateInteractionObjective(encoder=encoder, loss=self, rows_per_sub_batch=self.rows_per_sub_batch)

    def of_scores(
        self, scores_BG: torch.Tensor, own_BG: torch.Tensor, negative_BG: torch.Tensor, batch: TripleBatch
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(loss, loss of a model that gives all texts the same score)."""
        if self.loss == "contrastive":
            return info_nce(scores_BG / self.temperature, own_BG, negative_BG).mean(), blind_loss(negative_BG)
        first_B1 = own_BG.int().argmax(dim=1, keepdim=True)
        scores_Bm = scores_BG.gather(1, first_B1 + torch.arange(batch.passages_per_query, device=first_B1.device))
        teacher_Bm = batch.scores_P.unflatten(0, (len(scores_Bm), -1)) / self.teacher_temperature
        scaled = (scores_Bm / self.temperature, torch.zeros_like(scores_Bm))
        loss, blind = (margin_mse(scores, teacher_Bm) for scores in scaled)
        return loss, blind


class LateInteractionObjective(TripleObjective):
    def __init__(self, *, encoder: TokenEncoder, loss: LateInteraction, rows_per_sub_batch: int | None = None) -> None:
        super().__init__(encoder=encoder, loss=loss, rows_per_sub_batch=rows_per_sub_batch)
        self.settings = loss

    def forward(self, batch: TripleBatch) -> tuple[torch.Tensor, Metrics]:
        """Queries and passages in one forward: two would break ZeRO-2 and 3."""
        vectors_TD = encode_in_sub_batches(self.encoder, self.rows(batch), self.rows_per_sub_batch)
        queries_TD, passages_TD = vectors_TD.split([len(side.token_ids_T) for side in (batch.queries, batch.passages)])
        scores_BG = scores_with_all_ranks(queries_TD, batch.queries, passages_TD, batch.passages)
        own_BG, negative_BG = own_and_negatives(batch)
        loss, blind = self.settings.of_scores(scores_BG, own_BG, negative_BG, batch)
        queries_BD = _means(queries_TD, batch.queries)
        positives_BD = _means(passages_TD, batch.passages)[:: batch.passages_per_query]
        metrics = score_metrics(scores_BG.detach(), own_BG, negative_BG) | spread(queries_BD, positives_BD)
        return loss, metrics | {"blind_loss": blind, "temperature": self.settings.temperature}


def _means(vectors_TD: torch.Tensor, rows: PackedBatch) -> torch.Tensor:
    """Each text's mean vector, to watch for collapse."""
    lengths_N = rows.lengths_N.long()
    row_of_token_T = torch.repeat_interleave(lengths_N, output_size=len(vectors_TD))
    summed_ND = vectors_TD.detach().new_zeros(len(lengths_N), vectors_TD.shape[1])
    return summed_ND.index_add(0, row_of_token_T, vectors_TD.detach()) / lengths_N[:, None]
