"""Two encoders that share a vector space, one for queries and one for passages: DPR, and PAIR without shared weights.

    encoder = TwoEncoders(queries, passages)         # Encoder.load opens a folder of two as one of these

It is the passages' encoder, except that queries go through `queries`. So a store, a search, MTEB and training need no
other code. If training leaves the passages' side as it was, stores made before are searched with the two. Its folder is
the passages' own, with the other below it and a Router of sentence-transformers over both.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mcontriever.disk import atomic_folder, write_json
from mcontriever.encoder.encoder import Encoder
from mcontriever.encoder.saved_model import QUERIES, query_folder, router_files
from mcontriever.encoder.sub_batches import encode_in_sub_batches
from mcontriever.errors import ModelError
from mcontriever.tokens import PackedBatch


class TwoEncoders(Encoder):
    """Both must have the dimension and the similarity of the vectors that they share."""

    passages_are_frozen = False

    def __init__(self, queries: Encoder, passages: Encoder) -> None:
        for name in ("dimension", "similarity"):
            ours, theirs = getattr(queries, name), getattr(passages, name)
            if ours != theirs:
                raise ModelError(
                    f"the queries' encoder has {name} {ours}, the passages' {theirs}",
                    fix="give the two encoders that were trained together, the queries' first",
                )
        super().__init__(
            passages.backbone,
            passages.tokenizer,
            token_weights=passages.token_weights,
            precision=passages.precision,
            int8_ranges=passages.int8_ranges,
            evidence_rule=passages.evidence_rule,
            **passages.spec(),
        )
        self.queries = queries
        self.train(passages.training)

    def freeze_passages(self) -> None:
        """Training changes the queries' encoder alone, and passages are encoded without dropout."""
        self.passages_are_frozen = True
        self.backbone.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> "TwoEncoders":
        super().train(mode)
        if self.passages_are_frozen:
            self.backbone.eval()
        return self

    def embed_queries(self, texts: Sequence[str]) -> np.ndarray:
        return self.queries.embed_queries(texts)

    def fingerprint(self) -> str:
        both = f"{self.queries.fingerprint()} {super().fingerprint()}"
        return hashlib.sha256(both.encode()).hexdigest()

    def _write(self, folder: Path, card: str | None, attachments: Mapping[str, bytes]) -> None:
        with atomic_folder(folder) as temporary:
            super()._write(temporary, card, attachments)
            self.queries.save(temporary / QUERIES)
            for name, value in router_files(self.queries.normalize).items():
                write_json(temporary / name, value)


def with_query_encoder(passages: Encoder, folder: Path, **changes: Any) -> Encoder:
    """Both encoders, if the folder of the passages' one holds two."""
    of_queries = query_folder(folder)
    return passages if of_queries is None else TwoEncoders(Encoder.load(of_queries, **changes), passages)


def passages_fingerprint(encoder: Encoder) -> str:
    """Of the encoder that embeds passages, whichever embeds queries."""
    return Encoder.fingerprint(encoder)


def parts_of(encoder: Encoder) -> list[Encoder]:
    """The encoders with weights of their own."""
    return [encoder.queries, encoder] if isinstance(encoder, TwoEncoders) else [encoder]


def encode_both(
    encoder: Encoder, queries: PackedBatch, passages: PackedBatch, rows_per_sub_batch: int | None
) -> torch.Tensor:
    """The embeddings of the queries, and after them of the passages.

    One encoder takes both in one forward, because ZeRO-2 and 3 break if a weight has two before a backward. Of two
    encoders each weight has one anyway.
    """
    if not isinstance(encoder, TwoEncoders):
        return encode_in_sub_batches(encoder, PackedBatch.join([queries, passages]), rows_per_sub_batch)
    sides = ((encoder.queries, queries), (encoder, passages))
    return torch.cat([encode_in_sub_batches(side, rows, rows_per_sub_batch) for side, rows in sides])
