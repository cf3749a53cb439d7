"""From sample indices to a batch of queries, positives and negatives: a pure function, so a run can resume anywhere.

    loader = TripleLoader.for_encoder(encoder, examples=open_training_set(...), negatives=1, hard_ratio=0.1, seed=0)
    batch = loader.batch(np.arange(64))

A query's passages are consecutive, its positive first (P N N, P N N, ...): the positive of query b is passage
b * (1 + n), also after the passages of all ranks are concatenated.

Shapes: B queries, n negatives each, P = B * (1 + n) passages, K known positives of a query at most.
"""

from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch

from mcontriever.finetuning.example_order import ShuffledOrder
from mcontriever.finetuning.examples.training_set import TrainingSet
from mcontriever.finetuning.passage_draw import PassageDraw, draw_passages
from mcontriever.tokens import PackedBatch, SpecialTokens, pack, tokenize_texts

NO_KEY = 0  # text keys are 64-bit hashes; this one means no text


@dataclass(frozen=True, eq=False)
class TripleBatch:
    """Keys are hashes of texts. A passage is not a negative of a query whose known positives include its key."""

    queries: PackedBatch
    passages: PackedBatch
    passage_keys_P: torch.Tensor
    known_positives_BK: torch.Tensor
    scores_P: torch.Tensor
    hard_share: float

    @property
    def passages_per_query(self) -> int:
        return len(self.passages) // len(self.queries)

    def to(self, device: str | torch.device, *, non_blocking: bool = False) -> "TripleBatch":
        return replace(
            self,
            queries=self.queries.to(device, non_blocking=non_blocking),
            passages=self.passages.to(device, non_blocking=non_blocking),
            passage_keys_P=self.passage_keys_P.to(device, non_blocking=non_blocking),
            known_positives_BK=self.known_positives_BK.to(device, non_blocking=non_blocking),
            scores_P=self.scores_P.to(device, non_blocking=non_blocking),
        )

    def stats(self) -> dict[str, float]:
        """Tokens, rows, truncated rows, the share of hard negatives, and the share that padding would add."""
        sides = (self.queries, self.passages)
        tokens = sum(side.token_ids_T.shape[0] for side in sides)
        return {
            "tokens": float(tokens),
            "rows": float(sum(len(side) for side in sides)),
            "truncated": float(sum(side.truncated for side in sides)),
            "padding_saved": 1 - tokens / sum(len(side) * side.max_length for side in sides),
            "hard_share": self.hard_share,
        }


class Order(Protocol):
    def examples_of(self, samples_R: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True, kw_only=True)
class TripleLoader:
    examples: TrainingSet
    order: Order
    tokenizer: Any
    special: SpecialTokens
    first_position: int
    query_prefix: str
    document_prefix: str
    query_length: int
    passage_length: int
    negatives: int
    hard_ratio: float
    margin_bins: int | None
    seed: int

    @classmethod
    def for_encoder(
        cls,
        encoder: Any,
        *,
        examples: TrainingSet,
        negatives: int,
        hard_ratio: float,
        seed: int,
        query_length: int = 64,
        passage_length: int = 256,
        order: Order | None = None,
        margin_bins: int | None = None,
    ) -> "TripleLoader":
        """With the encoder's tokenizer, positions and prefixes."""
        return cls(
            examples=examples,
            order=order or ShuffledOrder(len(examples), seed),
            tokenizer=encoder.tokenizer,
            special=encoder.special,
            first_position=encoder.first_position,
            query_prefix=encoder.query_prefix,
            document_prefix=encoder.document_prefix,
            query_length=query_length,
            passage_length=passage_length,
            negatives=negatives,
            hard_ratio=hard_ratio,
            margin_bins=margin_bins,
            seed=seed,
        )

    def batch(self, samples: np.ndarray) -> TripleBatch:
        examples = self.examples
        rows_B, draw = self._draw(samples)
        passages_P = draw.passages_Bn.reshape(-1)
        queries = examples.queries.documents(examples.query_rows_E[rows_B])
        passages = examples.passages.documents(passages_P)
        return TripleBatch(
            queries=self._pack([self.query_prefix + query.text for query in queries], self.query_length),
            passages=self._pack(
                [self.document_prefix + passage.full_text for passage in passages], self.passage_length
            ),
            passage_keys_P=_keys(examples.passages.text_keys_N[passages_P]),
            known_positives_BK=self._known_positives(rows_B),
            scores_P=torch.from_numpy(draw.scores_Bn.reshape(-1)),
            hard_share=float(draw.hard_Bn.mean()) if self.negatives else 0.0,
        )

    def rows_of(self, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The rows of the batch's queries and passages in their collections."""
        rows_B, draw = self._draw(samples)
        return self.examples.query_rows_E[rows_B], draw.passages_Bn.reshape(-1)

    def _draw(self, samples: np.ndarray) -> tuple[np.ndarray, PassageDraw]:
        rows_B = self.order.examples_of(samples)
        draw = draw_passages(
            self.examples,
            rows_B,
            samples,
            negatives=self.negatives,
            hard_ratio=self.hard_ratio,
            margin_bins=self.margin_bins,
            seed=self.seed,
        )
        return rows_B, draw

    def _pack(self, texts: list[str], max_length: int) -> PackedBatch:
        flat_ids, lengths = tokenize_texts(self.tokenizer, texts, max_length)
        return pack(flat_ids, lengths, self.special, self.first_position, max_length)

    def _known_positives(self, rows_B: np.ndarray) -> torch.Tensor:
        """As wide as the longest example, so all ranks' batches have the same shape."""
        positives_BK = self.examples.positives.padded(rows_B, width=self.examples.most_positives)
        keys_BK = self.examples.passages.text_keys_N[np.maximum(positives_BK, 0)]
        return _keys(np.where(positives_BK >= 0, keys_BK, NO_KEY))


def _keys(keys: np.ndarray) -> torch.Tensor:
    """torch supports comparison of unsigned integers only in part."""
    return torch.from_numpy(np.ascontiguousarray(keys).view(np.int64))
