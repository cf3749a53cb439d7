"""Training windows per second on one core: draw the samples, find the windows, gather their tokens.

    python benchmarks/speed/sampling.py --tokens FOLDER --rounds 5

FOLDER is what `mcontriever prepare` wrote; without it, a store of 29 languages is made up. Each figure is the median of
the rounds, by the processor's own clock; batches of 64 are one GPU's step, larger ones what a loader reads ahead.
Writes results/sampling.json.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from result_files import RESULTS, machine_facts, show_and_keep

from mcontriever.pretraining.sampling import WindowSampler
from mcontriever.token_manifest import FORMAT
from mcontriever.token_shards import TokenStore

SAMPLES = 40_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dry", action="store_true", help="print, write nothing")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        store = TokenStore.open(options.tokens or make_store(Path(scratch)))
        report = {
            "command": f"python benchmarks/speed/sampling.py --rounds {options.rounds}",
            "machine": machine_facts("numpy"),
            "store": f"{len(store.languages)} languages, {sum(store.window_counts.values()):,} windows of 256 tokens",
            "windows_per_second": {
                f"batches of {batch}": round(windows_per_second(store, batch, options.rounds))
                for batch in (64, 256, 1024, 4096)
            },
        }
    show_and_keep(report, None if options.dry else RESULTS / "sampling.json")


def windows_per_second(store: TokenStore, batch: int, rounds: int) -> float:
    sampler = WindowSampler(store.window_counts, alpha=0.3, seed=1)
    rates = []
    for number in range(rounds):
        first = number * SAMPLES
        started = time.process_time()
        for start in range(first, first + SAMPLES, batch):
            drawn = sampler.draw(np.arange(start, start + batch))
            tokens, lengths = store.windows(drawn.language, drawn.window, drawn.phase)
        rates.append(SAMPLES / (time.process_time() - started))
        assert len(tokens) == lengths.sum() > 0
    return statistics.median(rates)


def make_store(folder: Path, languages: int = 29, shards: int = 3, documents: int = 1000) -> Path:
    random = np.random.default_rng(0)
    entries = []
    for language in range(languages):
        for shard in range(shards):
            names = {kind: f"l{language}-{shard}.{kind}.npy" for kind in ("tokens", "offsets")}
            offsets = np.cumsum([0, *random.lognormal(6, 1, documents).astype(int) + 16])
            np.save(folder / names["offsets"], offsets)
            np.save(folder / names["tokens"], random.integers(4, 60_000, offsets[-1]).astype(np.uint16))
            entry = {"shard": shard, "language": f"l{language}", "sha256": {}}
            entry |= {f"{kind}_file": name for kind, name in names.items()}
            entries.append({**entry, "bytes": {name: (folder / name).stat().st_size for name in names.values()}})
    manifest = {"format": FORMAT, "tokenizer": {"name": "none", "fingerprint": ""}, "shards": entries}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


if __name__ == "__main__":
    main()
