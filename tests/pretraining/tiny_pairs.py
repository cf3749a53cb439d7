"""An encoder and pair batches small enough to follow by hand, the same in every process."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from mcontriever.encoder import Encoder
from mcontriever.pretraining.pairs import PairBatch, PairLoader, TokenPairs
from mcontriever.ragged import Ragged
from mcontriever.tokens import load_tokenizer

ARCHITECTURE = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "initializer_range": 0.3,
}
LANGUAGES = 3


def new_encoder(tokenizer_folder: Path, **settings: Any) -> Encoder:
    settings = {"seed": 1, "max_length": 32, "normalize": True, **settings}
    return Encoder.from_random(ARCHITECTURE, load_tokenizer(str(tokenizer_folder)), **settings)


class RandomPairs:
    """Sample i is the same random tokens in every batch; texts and languages repeat."""

    def __init__(self, vocabulary: int, keys_per_query: int = 1, texts: int = 1000) -> None:
        self.vocabulary, self.keys_per_query, self.texts = vocabulary, keys_per_query, texts

    def draw(self, samples: np.ndarray) -> TokenPairs:
        rows = [self._rows(int(sample)) for sample in samples]
        return TokenPairs(
            Ragged.of([row[0] for row in rows]),
            Ragged.of([key for row in rows for key in row[1:]]),
            samples % LANGUAGES,
            samples % self.texts,
        )

    def _rows(self, sample: int) -> list[np.ndarray]:
        generator = np.random.default_rng(sample)
        words = generator.integers(5, self.vocabulary - 1, size=12)
        return [words[generator.random(12) < 0.6][:8].repeat(1) for _ in range(1 + self.keys_per_query)]


def pair_batch(encoder: Encoder, samples: Any, *, keys_per_query: int = 1, texts: int = 1000) -> PairBatch:
    source = RandomPairs(len(encoder.tokenizer), keys_per_query, texts)
    loader = PairLoader(
        source, special=encoder.special, first_position=encoder.first_position, max_length=encoder.max_length
    )
    return loader.batch(np.asarray(samples))


def gradients(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.grad.clone() for name, value in module.named_parameters() if value.grad is not None}


def push_back(encoder: Encoder, batch: Any, gradient_NH: torch.Tensor) -> dict[str, torch.Tensor]:
    """The parameters' gradients for a known gradient of the embeddings."""
    encoder.zero_grad()
    encoder(batch).backward(gradient_NH.float())
    found = gradients(encoder)
    encoder.zero_grad()
    return found
