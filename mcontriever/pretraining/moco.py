"""MoCo for text: queries against keys from a slow copy of the encoder, with a queue of past keys as negatives.

    objective = MoCo(encoder, temperature=Temperature(0.05), queue_size=32768, momentum=0.999)
    loss, metrics = objective(batch)      # once for each micro-batch
    objective.after_update()              # once for each update: the slow copy follows, the queue takes the new keys

Only the encoder (and a learned temperature) have parameters; the slow copy and the queue are not modules. Keys are
gathered over ranks and enter the queue in the order of their samples, so every rank holds the same queue for any world
size and any accumulation.

Shapes: B queries of one rank, n keys of each, G keys of all ranks, H hidden.
"""

from collections.abc import Callable
from typing import Any, Literal

import pydantic
import torch

from mcontriever.config.sections import Count, Section, Share
from mcontriever.embedding_spread import spread
from mcontriever.errors import ModelError, RunError
from mcontriever.pretraining.infonce import ANY_LANGUAGE, Contrast, Negatives, infonce
from mcontriever.pretraining.key_queue import KeyQueue
from mcontriever.pretraining.momentum import MomentumEncoder
from mcontriever.pretraining.pairs import PairBatch
from mcontriever.pretraining.temperature import Temperature, TemperatureSetting
from mcontriever.ranks import gather
from mcontriever.tokens import PackedBatch

Metrics = dict[str, float | torch.Tensor]


def equal_weights(scores_Bn: torch.Tensor) -> torch.Tensor:
    """All keys of a query count equally."""
    return torch.full_like(scores_Bn, 1 / scores_Bn.shape[1])


class QueueSettings(Section):
    """What objectives with a queue and a slow encoder share.

    `batch_negatives` adds the current batch's keys to the queue's. `own_language_negatives` contrasts a query only
    with negatives of its language (with all while there are none), so that recognising the language does not help.
    """

    temperature: TemperatureSetting
    queue_size: Count = 32768
    momentum: Share = 0.999
    final_momentum: Share | None = None
    momentum_rise_updates: int = pydantic.Field(default=0, ge=0)
    batch_negatives: bool = False
    own_language_negatives: bool = False
    key_dropout: bool = False

    @property
    def contrasts_within_batch(self) -> bool:
        """Then a batch must not be divided into micro steps."""
        return self.batch_negatives

    def values(self) -> dict[str, Any]:
        """As `MoCo` takes them."""
        values = self.model_dump(include=set(QueueSettings.model_fields))
        return {**values, "temperature": self.temperature.temperature()}


class MocoSettings(QueueSettings):
    kind: Literal["moco"] = "moco"

    def objective(self, encoder: Any, *, key_compute_dtype: torch.dtype | None) -> "MoCo":
        return MoCo(encoder, **self.values(), key_compute_dtype=key_compute_dtype)


class MoCo(torch.nn.Module):
    def __init__(
        self,
        encoder: Any,
        *,
        temperature: Temperature,
        queue_size: int,
        momentum: float = 0.999,
        final_momentum: float | None = None,
        momentum_rise_updates: int = 0,
        batch_negatives: bool = False,
        own_language_negatives: bool = False,
        key_dropout: bool = False,
        key_compute_dtype: torch.dtype | None = None,
        queue_dtype: torch.dtype = torch.float32,
        key_weights: Callable[[torch.Tensor], torch.Tensor] = equal_weights,
        mean_over_pairs: bool = False,
    ) -> None:
        """`mean_over_pairs` divides the loss by the number of keys of a query, whose weights have sum 1."""
        super().__init__()
        self.encoder = encoder
        self.temperature = temperature
        self.batch_negatives = batch_negatives
        self.own_language_negatives = own_language_negatives
        self.key_weights = key_weights
        self.mean_over_pairs = mean_over_pairs
        self.momentum = MomentumEncoder(
            encoder,
            momentum=momentum,
            final_momentum=final_momentum,
            rise_updates=momentum_rise_updates,
            dropout=key_dropout,
            compute_dtype=key_compute_dtype,
        )
        self.queue = KeyQueue(queue_size, encoder.dimension, dtype=queue_dtype)
        self._waiting: list[tuple[torch.Tensor, Negatives]] = []

    def forward(self, batch: PairBatch) -> tuple[torch.Tensor, Metrics]:
        return self.score(self.encoder(self.rows(batch)), batch)

    def rows(self, batch: PairBatch) -> PackedBatch:
        """What has to be encoded with gradient."""
        return batch.queries

    def score(self, queries_BH: torch.Tensor, batch: PairBatch) -> tuple[torch.Tensor, Metrics]:
        """`queries_BH` are the embeddings of `rows(batch)`."""
        keys_BnH = self.momentum.encode(batch.keys).unflatten(0, (len(batch), batch.keys_per_query))
        batch_keys = self._gather_keys(batch, keys_BnH)
        negatives = self._negatives(batch_keys)
        scale = self.temperature()
        contrast = infonce(
            queries_BH,
            keys_BnH,
            negatives,
            scale,
            text_B=batch.text_B,
            language_B=_own_language(batch.language_B, negatives) if self.own_language_negatives else None,
        )
        weights_Bn = self.key_weights(contrast.positive_scores_Bn)
        has_negatives_B = contrast.negatives_B > 0
        if len(self.queue) and not has_negatives_B.any():
            raise RunError(
                "no query of the batch has a negative, so its loss would be 0",
                fix="use a larger batch or queue, or more texts: pairs of one text are never each other's negatives",
            )
        loss = ((weights_Bn * contrast.loss_Bn).sum(1) * has_negatives_B).sum() / has_negatives_B.sum().clamp_min(1)
        if self.mean_over_pairs:
            loss = loss / batch.keys_per_query
        with torch.no_grad():
            in_batch = infonce(queries_BH, keys_BnH, [batch_keys], scale, text_B=batch.text_B)
        return loss, self._metrics(loss, contrast, in_batch, queries_BH, keys_BnH, scale)

    def after_update(self) -> None:
        """The slow copy follows the encoder; the keys seen since the last update enter the queue."""
        self.momentum.follow(self.encoder)
        self.temperature.updates += 1
        if not self._waiting:
            return
        sample_N = torch.cat([samples for samples, _ in self._waiting])
        order_N = torch.argsort(sample_N, stable=True)
        parts = [part for _, part in self._waiting]
        self.queue.append(
            torch.cat([part.keys_KH for part in parts])[order_N],
            torch.cat([part.text_K for part in parts])[order_N],
            torch.cat([part.language_K for part in parts])[order_N],
        )
        self._waiting.clear()

    def state(self) -> dict[str, torch.Tensor]:
        """What is kept outside the engine; the same on every rank."""
        return {
            **{f"momentum.{name}": value for name, value in self.momentum.state().items()},
            **{f"queue.{name}": value for name, value in self.queue.state().items()},
            "temperature.updates": torch.tensor(self.temperature.updates),
        }

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        missing = sorted(self.state().keys() - state.keys())
        if missing:
            raise ModelError(
                f"the checkpoint lacks {len(missing)} values of this objective, the first is {missing[0]}",
                fix="resume with the objective and encoder that the run began with",
            )
        self.momentum.load_state(_under("momentum.", state))
        self.queue.load_state(_under("queue.", state))
        self.temperature.updates = int(state["temperature.updates"])

    def _gather_keys(self, batch: PairBatch, keys_BnH: torch.Tensor) -> Negatives:
        keys_per_query = keys_BnH.shape[1]
        labels_B3 = torch.stack([batch.sample_B, batch.text_B, batch.language_B], 1)
        sample_G, text_G, language_G = gather(labels_B3.repeat_interleave(keys_per_query, 0)).T.contiguous()
        keys = Negatives(gather(keys_BnH.flatten(0, 1)), text_G, language_G)
        if self.training:
            self._waiting.append((sample_G, keys))
        return keys

    def _negatives(self, batch_keys: Negatives) -> list[Negatives]:
        """The queue is empty at the first batch, which uses its own other keys instead."""
        self.queue.to(batch_keys.keys_KH.device)
        negatives = [self.queue.negatives()] if len(self.queue) else []
        return [*negatives, batch_keys] if self.batch_negatives or not negatives else negatives

    def _metrics(
        self,
        loss: torch.Tensor,
        contrast: Contrast,
        in_batch: Contrast,
        queries_BH: torch.Tensor,
        keys_BnH: torch.Tensor,
        scale: float | torch.Tensor,
    ) -> Metrics:
        return {
            "loss": loss.detach(),
            "accuracy": contrast.correct_Bn.float().mean(),
            "chance": (1 / (1 + contrast.negatives_B)).mean(),
            "batch_accuracy": in_batch.correct_Bn.float().mean(),
            "batch_chance": (1 / (1 + in_batch.negatives_B)).mean(),
            "blind_loss": contrast.negatives_B.log1p().mean() / (keys_BnH.shape[1] if self.mean_over_pairs else 1),
            "queries": float(len(queries_BH)),
            "positive_score": contrast.positive_scores_Bn.mean(),
            "negative_score": contrast.negative_score_B.mean(),
            **spread(queries_BH.detach(), keys_BnH[:, 0]),
            "temperature": 1 / (scale.detach() if isinstance(scale, torch.Tensor) else scale),
            "momentum": self.momentum.current_momentum(),
            "queue_filled": float(len(self.queue)),
        }


def _own_language(language_B: torch.Tensor, negatives: list[Negatives]) -> torch.Tensor:
    known_B = torch.isin(language_B, torch.cat([part.language_K for part in negatives]))
    return torch.where(known_B, language_B, ANY_LANGUAGE)


def _under(prefix: str, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
