"""Contrast within the batch: each query must find its key among all keys and, if `symmetric`, each key its query among
all queries, over all ranks and with gradients on both sides.

    objective = InBatch(encoder, temperature=Temperature(0.05), rows_per_sub_batch=64)
    loss, metrics = objective(batch)

Queries and keys share one packed forward, in sub-batches if memory is short (see sub_batches.py).

Shapes: B pairs of one rank, G pairs of all ranks, H hidden.
"""

from typing import Any, ClassVar, Literal

import torch
from torch.nn.functional import softplus

from mcontriever import ranks
from mcontriever.config.sections import Count, Section
from mcontriever.embedding_spread import spread
from mcontriever.encoder.sub_batches import encode_in_sub_batches
from mcontriever.errors import ConfigError, RunError
from mcontriever.pretraining.pairs import PairBatch
from mcontriever.pretraining.temperature import Temperature, TemperatureSetting
from mcontriever.tokens import PackedBatch

Metrics = dict[str, float | torch.Tensor]


class InBatchSettings(Section):
    """`rows_per_sub_batch` limits the texts whose activations are in memory; None keeps all."""

    contrasts_within_batch: ClassVar[bool] = True  # so a batch must not be divided into micro steps

    kind: Literal["inbatch"] = "inbatch"
    temperature: TemperatureSetting
    symmetric: bool = True  # False: only queries look for their keys, as in Contriever's code
    rows_per_sub_batch: Count | None = None

    def objective(self, encoder: Any, *, key_compute_dtype: torch.dtype | None) -> "InBatch":
        """`key_compute_dtype` is for objectives that compute keys without gradient."""
        return InBatch(
            encoder,
            temperature=self.temperature.temperature(),
            symmetric=self.symmetric,
            rows_per_sub_batch=self.rows_per_sub_batch,
        )


class InBatch(torch.nn.Module):
    def __init__(
        self,
        encoder: Any,
        *,
        temperature: Temperature,
        symmetric: bool = True,
        rows_per_sub_batch: int | None = None,
    ) -> None:
        super().__init__()
        if rows_per_sub_batch is not None and rows_per_sub_batch < 1:
            raise ConfigError(f"rows_per_sub_batch {rows_per_sub_batch} is less than 1", fix="32 is a good start")
        self.encoder = encoder
        self.temperature = temperature
        self.symmetric = symmetric
        self.rows_per_sub_batch = rows_per_sub_batch

    def forward(self, batch: PairBatch) -> tuple[torch.Tensor, Metrics]:
        return self.score(encode_in_sub_batches(self.encoder, self.rows(batch), self.rows_per_sub_batch), batch)

    def rows(self, batch: PairBatch) -> PackedBatch:
        """What has to be encoded with gradient."""
        return PackedBatch.join([batch.queries, batch.keys])

    def score(self, embeddings: torch.Tensor, batch: PairBatch) -> tuple[torch.Tensor, Metrics]:
        """`embeddings` are those of `rows(batch)`."""
        if batch.keys_per_query != 1:
            raise ConfigError(
                f"in-batch contrast takes 1 key for each query, found {batch.keys_per_query}",
                fix="set keys_per_query to 1, or use the relevance objective",
            )
        queries_BH, keys_BH = embeddings[: len(batch)], embeddings[len(batch) :]
        queries_GH, keys_GH = ranks.gather_with_grad(torch.cat([queries_BH, keys_BH], 1)).chunk(2, dim=1)
        blocked_BG = batch.text_B[:, None] == ranks.gather(batch.text_B)
        if bool(blocked_BG.all()):
            raise RunError(
                f"no query of the batch ({len(blocked_BG[0])} pairs over all ranks) has a negative, "
                "so its loss would be 0",
                fix="use a larger batch, or more texts: pairs of one text are never each other's negatives",
            )
        scale = self.temperature()
        forward = contrast(queries_BH, keys_BH, keys_GH, blocked_BG, scale)
        loss = forward["loss"]
        if self.symmetric:
            loss = (loss + contrast(keys_BH, queries_BH, queries_GH, blocked_BG, scale)["loss"]) / 2
        negatives_B = (~blocked_BG).sum(1)
        metrics: Metrics = {
            **{name: value.detach() for name, value in forward.items()},
            "loss": loss.detach(),
            "chance": (1 / (1 + negatives_B)).mean(),
            "blind_loss": negatives_B.log1p().mean(),
            "queries": float(len(batch)),
            **spread(queries_BH.detach(), keys_BH.detach()),
            "temperature": 1 / (scale.detach() if isinstance(scale, torch.Tensor) else scale),
        }
        return loss, metrics

    def after_update(self) -> None:
        self.temperature.updates += 1

    def state(self) -> dict[str, torch.Tensor]:
        return {"temperature.updates": torch.tensor(self.temperature.updates)}

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        self.temperature.updates = int(state["temperature.updates"])


def contrast(
    queries_BH: torch.Tensor,
    positives_BH: torch.Tensor,
    others_GH: torch.Tensor,
    blocked_BG: torch.Tensor,
    scale: float | torch.Tensor,
) -> dict[str, torch.Tensor]:
    """The mean of softplus(logsumexp of negatives - positive): a numerically stable cross-entropy."""
    with torch.autocast(queries_BH.device.type, enabled=False):
        scores_BG = queries_BH @ others_GH.T
        positive_B = (queries_BH * positives_BH).sum(1)
        has_negatives_B = ~blocked_BG.all(1)
        # -inf only after scaling, and never in a whole row: both would give NaN gradients
        blocked_scores_BG = (scores_BG * scale).masked_fill(blocked_BG & has_negatives_B[:, None], -torch.inf)
        loss_B = softplus(torch.logsumexp(blocked_scores_BG, 1) - positive_B * scale)
        loss = (loss_B * has_negatives_B).sum() / has_negatives_B.sum()
    highest_B = scores_BG.masked_fill(blocked_BG, -torch.inf).amax(1)
    return {
        "loss": loss,
        "accuracy": (positive_B > highest_B + 1e-5 * positive_B.abs()).float().mean(),
        "positive_score": positive_B.mean(),
        "negative_score": scores_BG[~blocked_BG].mean(),
    }
