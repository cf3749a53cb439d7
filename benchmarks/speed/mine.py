"""Seconds to mine hard negatives from a store, beside a bare FAISS flat search of the same queries to the same depth.

    python benchmarks/speed/mine.py --rounds 3

The store holds synthetic embeddings as benchmarks/speed/search.py draws them, in fp16, each with a text of its own of
about 60 words; a query lies near its positive. Ours is all that `mcontriever mine` does with a query once it is
embedded: search, leaving out known positives and copies, margins, choice, reading the texts, writing the examples.
What is kept beside the store (a key for each text) is made in a round before that is not counted. FAISS only
searches, over vectors that are in memory already. Rounds alternate. Memory beyond the mapped files is watched in a
process of its own. Writes results/mine.json. On a machine that others use too, `--busy` takes one thread,
counts its processor's seconds, and writes nothing.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
from drawn_store import SHARD_ROWS, embeddings_like, make_store, unit
from result_files import RESULTS, machine_facts, show_and_keep
from watched_memory import watched_memory

from mcontriever.finetuning.examples.passage_collection import text_key
from mcontriever.finetuning.examples.training_set import open_training_set
from mcontriever.finetuning.mining.hard_negatives import Window
from mcontriever.finetuning.mining.miner import Miner, Searcher
from mcontriever.finetuning.mining.mining_loop import mine_blocks
from mcontriever.finetuning.part_folder import mined_folder
from mcontriever.progress import setup_logging
from mcontriever.retrieval.dense_search import DenseSearch
from mcontriever.retrieval.store.embedding_store import EmbeddingStore
from mcontriever.retrieval.store.store_manifest import EncoderEntry
from mcontriever.retrieval.store_texts import StoreTexts
from mcontriever.shipped import ATLAS
from mcontriever.texts.documents import Document, read_documents
from mcontriever.texts.json_lines import write_json_lines

NEGATIVES, MEMORY_BYTES, QUERIES_PER_BLOCK = 30, 500 << 20, 4096


class KnownVectors:
    """In the place of an encoder: query number i has vector i."""

    device = torch.device("cpu")

    def __init__(self, vectors: np.ndarray) -> None:
        self.vectors = vectors

    def embed_queries(self, texts: list[str]) -> np.ndarray:
        return self.vectors[[int(text.split()[-1]) for text in texts]]


def main() -> None:
    options = parse_options()
    setup_logging("warning")
    threads = 1 if options.busy else os.cpu_count() or 1
    torch.set_num_threads(threads)
    faiss.omp_set_num_threads(threads)
    clock = time.process_time if options.busy else time.perf_counter
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        folder = Path(scratch)
        queries = make_data(folder, options)
        report = {
            "command": f"python benchmarks/speed/mine.py --rounds {options.rounds}",
            "options": {name: value for name, value in vars(options).items() if name != "scratch"},
            "machine": machine_facts("torch", "faiss-cpu", "numpy"),
            **compare(folder, queries, options, clock),
            "memory": watched_memory(prepared_mining, folder, options),
        }
    show_and_keep(report, None if options.busy else RESULTS / "mine.json")


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--passages", type=int, default=200_000)
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--dimension", type=int, default=768)
    parser.add_argument("--depth", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scratch", help="where the store goes; it is removed afterwards")
    parser.add_argument("--busy", action="store_true")
    return parser.parse_args()


def make_data(folder: Path, options: argparse.Namespace) -> np.ndarray:
    """A store, examples whose positives are in it, and the vectors of their queries."""
    rng = np.random.default_rng(0)
    draw = embeddings_like(rng, options.dimension)
    sources = [document.text.split()[:60] for document in read_documents(ATLAS / "train" / "corpus.jsonl")]

    def text(row: int) -> str:
        return f"{row} {' '.join(sources[row % len(sources)])}"

    def document(row: int) -> Document:
        return Document(str(row), text(row), "", "en")

    drawn = EncoderEntry(model="drawn", fingerprint="drawn", spec={})
    store = make_store(folder / "store", draw, options.passages, document, "fp16", encoder=drawn)
    positives = rng.integers(0, options.passages, options.queries)
    records = (
        {"question": f"query {number}", "positive_ctxs": [{"id": str(row), "text": text(row)}]}
        for number, row in enumerate(positives.tolist())
    )
    write_json_lines(folder / "examples.jsonl", records)
    near = store.take(positives)
    noise = draw(options.queries) - draw(options.queries)
    queries = unit(near + 0.5 * noise)
    np.save(folder / "queries.npy", queries)
    return queries


def compare(
    folder: Path, queries: np.ndarray, options: argparse.Namespace, clock: Callable[[], float]
) -> dict[str, Any]:
    store = EmbeddingStore.open(folder / "store")
    flat = faiss.IndexFlatIP(options.dimension)
    for start in range(0, len(store), SHARD_ROWS):
        flat.add(store.take(np.arange(start, min(start + SHARD_ROWS, len(store)))))
    contenders: dict[str, Callable[[], object]] = {
        "ours": lambda: mine_all(folder, options),
        "FAISS flat": lambda: flat.search(queries, options.depth),
    }
    mine_all(folder, options)
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(options.rounds):
        for name, work in contenders.items():
            started = clock()
            work()
            seconds[name].append(clock() - started)
    medians = {name: round(statistics.median(values), 2) for name, values in seconds.items()}
    return {"seconds": medians, "ours_takes_this_share": round(medians["ours"] / medians["FAISS flat"], 3)}


def mine_all(folder: Path, options: argparse.Namespace) -> None:
    store = EmbeddingStore.open(folder / "store")
    encoder: Any = KnownVectors(np.load(folder / "queries.npy", mmap_mode="r"))
    window = Window(first_rank=1, last_rank=options.depth, relative_margin=0.95)
    search = DenseSearch.rough(store, encoder, MEMORY_BYTES)
    searcher = Searcher(name="dense", search=search, window=window, negatives=NEGATIVES, at_random=True)
    examples = open_training_set(format="dpr", paths=[str(folder / "examples.jsonl")])
    miner = Miner(
        examples=examples,
        searchers=[searcher],
        store=store,
        texts=StoreTexts.open(store, text_key),
        opinion=None,
        seed=0,
    )
    with tempfile.TemporaryDirectory(dir=folder) as output:
        mine_blocks(examples, mined_folder(output), miner, queries_per_block=QUERIES_PER_BLOCK, texts=True)


def prepared_mining(folder: Path, options: argparse.Namespace) -> Callable[[], object]:
    torch.set_num_threads(1 if options.busy else os.cpu_count() or 1)
    return partial(mine_all, folder, options)


if __name__ == "__main__":
    main()
