"""Batches of queries and passages made by hand, so that a test knows every text, key and score in them."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from mcontriever.encoder import Encoder
from mcontriever.finetuning.examples.passage_collection import text_key
from mcontriever.finetuning.triples import TripleBatch
from mcontriever.tokens import PackedBatch, pack, tokenize_texts

MakeBatch = Callable[..., TripleBatch]


def signed(key: int) -> int:
    return key - (1 << 64) if key >= 1 << 63 else key


def make_triple_batch(
    encoder: Encoder,
    queries: Sequence[str],
    passages: Sequence[str],
    known_positives: Sequence[Sequence[str]] | None = None,
    scores: Sequence[float] | None = None,
    length: int = 32,
) -> TripleBatch:
    """`passages` stand as a loader puts them: for each query its positive, then its negatives."""

    def packed(texts: Sequence[str]) -> PackedBatch:
        flat, lengths = tokenize_texts(encoder.tokenizer, texts, length)
        return pack(flat, lengths, encoder.special, encoder.first_position, length)

    per_query = len(passages) // len(queries)
    known = known_positives or [[passages[row * per_query]] for row in range(len(queries))]
    width = max(len(texts) for texts in known)
    keys = [[signed(text_key(text)) for text in texts] + [0] * (width - len(texts)) for texts in known]
    return TripleBatch(
        queries=packed(queries),
        passages=packed(passages),
        passage_keys_P=torch.tensor([signed(text_key(text)) for text in passages]),
        known_positives_BK=torch.tensor(keys),
        scores_P=torch.tensor(scores if scores is not None else [float("nan")] * len(passages)),
        hard_share=0.0,
    )


@pytest.fixture(scope="session")
def tiny_encoder(tiny_encoder_dir: Path) -> Encoder:
    encoder = Encoder.load(tiny_encoder_dir)
    torch.manual_seed(3)
    # Random weights put all texts at one point; larger ones give the losses something to tell apart.
    with torch.no_grad():
        for parameter in encoder.parameters():
            if parameter.dim() == 2:
                parameter.mul_(8)
    return encoder


@pytest.fixture(scope="session")
def texts(sentences: dict[str, list[str]]) -> list[str]:
    return [sentence for group in sentences.values() for sentence in group]
