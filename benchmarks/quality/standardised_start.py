"""What raw text gives a model without a step of training: each dimension of its vectors gets mean 0 and one deviation.

    python benchmarks/quality/standardised_start.py BASE TOKENS OUTPUT

BASE is an encoder that pools by the mean, TOKENS the shards that `prepare` made with it. The first crops that training
would see are embedded; their mean, and their deviation within a language, go into the weights of the last layer's
LayerNorm, as the mean of tokens commutes with both. OUTPUT is an ordinary model, which may be trained or benchmarked.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from mcontriever.assembly.pretraining_pairs import open_pairs
from mcontriever.assembly.training_config import PretrainConfig, load_train_config
from mcontriever.encoder import Encoder
from mcontriever.encoder.centred_vectors import last_norm
from mcontriever.tokens import pack

CONFIG = Path(__file__).parents[2] / "configs" / "real" / "crops.yaml"
BATCHES = 42  # of 48 crops, each batch of one language


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path)
    parser.add_argument("tokens", type=Path)
    parser.add_argument("output", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    encoder = Encoder.load(given.base)
    if encoder.pooling != "mean":
        parser.error("BASE must pool by the mean of its tokens")
    batches_BNH = pooled_crops(given.base, given.tokens)
    standardise(last_norm(encoder.backbone, where=given.base), batches_BNH)
    encoder.save(given.output, overwrite=True)


def pooled_crops(base: Path, tokens: Path) -> np.ndarray:
    """float64 [batches, rows, H]: crops as training draws them, pooled and not of length one."""
    encoder = Encoder.load(base, normalize=False, similarity="dot")
    config = load_train_config(CONFIG, [f"data.tokens={tokens}"])
    assert isinstance(config, PretrainConfig)
    rows = int(config.deepspeed["train_batch_size"])
    source = open_pairs(config.data, None, encoder.tokenizer, base, seed=config.run.seed)[0]
    vectors = []
    with torch.inference_mode():
        for number in range(BATCHES):
            crops = source.draw(np.arange(number * rows, (number + 1) * rows)).queries
            special, first = encoder.special, encoder.first_position
            batch = pack(crops.values_T, crops.lengths_N, special, first, encoder.max_length)
            vectors.append(encoder(batch).double().numpy())
    return np.stack(vectors)


def standardise(norm: torch.nn.LayerNorm, batches_BNH: np.ndarray) -> None:
    """Vectors keep their mean length, so that what follows them sees the same magnitudes."""
    mean_H = batches_BNH.mean((0, 1))
    within_H = np.sqrt(((batches_BNH - batches_BNH.mean(1, keepdims=True)) ** 2).mean((0, 1)))
    scale_H = 1 / np.maximum(within_H, 1e-6)
    lengths = (np.linalg.norm(vectors, axis=-1).mean() for vectors in (batches_BNH, (batches_BNH - mean_H) * scale_H))
    before, after = lengths
    scale_H *= before / after
    with torch.no_grad():
        norm.weight.mul_(torch.from_numpy(scale_H).to(norm.weight))
        norm.bias.sub_(torch.from_numpy(mean_H).to(norm.bias)).mul_(torch.from_numpy(scale_H).to(norm.bias))


if __name__ == "__main__":
    main()
