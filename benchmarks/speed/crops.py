"""Pairs of crops per second on one core: the usual way, one sample after the other, beside whole batches in numpy.

    python benchmarks/speed/crops.py --rounds 7

Windows of 256 tokens are in memory; a sample is a pair of crops of 10 to 50 % with 10 % of the tokens deleted, special
tokens and positions, ready for the encoder. The usual way makes one torch tensor for each crop and pads them into a
matrix at the end. Every figure is the median over alternating rounds, by the processor's own clock, for batches of 64
(one GPU's step) and 1,024. Writes results/crops.json.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from result_files import RESULTS, machine_facts, show_and_keep

from mcontriever.pretraining.augment import Augmentation, Augmented, TokenKinds
from mcontriever.pretraining.crops import IndependentCrops, InverseCloze, View
from mcontriever.pretraining.pairs import PairLoader, TokenPairs
from mcontriever.ragged import Ragged
from mcontriever.tokens import SpecialTokens
from mcontriever.word_starts import WordBoundaries

WINDOWS, WINDOW_TOKENS, VOCABULARY = 4096, 256, 250_002
SPECIAL = SpecialTokens(begin_id=0, end_id=2, pad_id=1, mask_id=VOCABULARY - 1, unknown_id=3)
Batches = Callable[[np.ndarray], Any]


class WindowsInMemory:
    """A source of pairs without a disk: sample i is made of window i modulo their number."""

    def __init__(self, tokens: np.ndarray, view: View) -> None:
        self.tokens, self.view = tokens, view

    def draw(self, samples: np.ndarray) -> TokenPairs:
        lengths = np.full(len(samples), WINDOW_TOKENS)
        windows = Ragged.of_lengths(self.tokens[samples % WINDOWS].ravel(), lengths)
        queries, keys = self.view(windows, samples, seed=0)
        return TokenPairs(queries, keys, np.zeros_like(samples), samples)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--dry", action="store_true", help="print, write nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    tokens = np.random.default_rng(0).integers(4, VOCABULARY - 1, size=(WINDOWS, WINDOW_TOKENS))
    contenders: dict[str, Batches] = {"one by one, padded": one_by_one(tokens), **ours(tokens)}
    report = {
        "command": f"python benchmarks/speed/crops.py --rounds {options.rounds}",
        "machine": machine_facts("numpy"),
        "pairs_per_second": {f"batches of {rows}": compare(contenders, rows, options.rounds) for rows in (64, 1024)},
    }
    show_and_keep(report, None if options.dry else RESULTS / "crops.json")


def compare(contenders: dict[str, Batches], rows: int, rounds: int) -> dict[str, int]:
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, batch in contenders.items():
            samples = 4096 if name.startswith("one by one") else 32_768
            started = time.process_time()
            for first in range(0, samples, rows):
                batch(np.arange(first, first + rows))
            rates[name].append(samples / (time.process_time() - started))
    return {name: round(statistics.median(values)) for name, values in rates.items()}


def ours(tokens: np.ndarray) -> dict[str, Batches]:
    words = WordBoundaries(np.random.default_rng(1).random(VOCABULARY) < 0.7, *np.zeros((2, VOCABULARY), dtype=bool))
    kinds = TokenKinds(SPECIAL.mask_id, np.arange(4, VOCABULARY - 1), words)
    crops = WindowsInMemory(tokens, IndependentCrops(0.1, 0.5))
    everything = Augmentation(delete=0.1, replace=0.05, mask=0.05, shuffle=0.05, whole_words=True)
    sources = {
        "crops, deleted": Augmented(crops, Augmentation(delete=0.1), kinds=kinds, seed=0),
        "crops": crops,
        "inverse cloze": WindowsInMemory(tokens, InverseCloze(0.1, 0.5)),
        "crops, all noise on words": Augmented(crops, everything, kinds=kinds, seed=0),
    }
    return {
        name: PairLoader(source, special=SPECIAL, first_position=2, max_length=256).batch
        for name, source in sources.items()
    }


def one_by_one(tokens: np.ndarray) -> Batches:
    windows = torch.from_numpy(tokens)

    def view(window: torch.Tensor) -> torch.Tensor:
        length = int(len(window) * np.random.uniform(0.1, 0.5))
        first = np.random.randint(0, len(window) - length + 1)
        kept = [token for token in window[first : first + length].tolist() if np.random.random() >= 0.1]
        return torch.tensor([SPECIAL.begin_id, *kept, SPECIAL.end_id])

    def batch(samples: np.ndarray) -> list[torch.Tensor]:
        pairs = [(view(windows[sample % WINDOWS]), view(windows[sample % WINDOWS])) for sample in samples]
        padded = []
        for side in zip(*pairs, strict=True):
            ids = torch.nn.utils.rnn.pad_sequence(side, batch_first=True, padding_value=SPECIAL.pad_id)
            padded += [ids, ids != SPECIAL.pad_id]
        return padded

    return batch


if __name__ == "__main__":
    main()
