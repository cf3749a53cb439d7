"""Queries per second over a store: our exact search beside FAISS flat and the indexes, alternating in one run.

    python benchmarks/speed/search.py --rows 1000000 --rounds 5
    python benchmarks/speed/search.py --part answers --rounds 5

Part `vectors`: a store of synthetic embeddings (topics within topics, a falling spectrum, length one: what trained
encoders give), queries near documents. Every round times every contender once on the same queries, in batches of each
size and one by one (FAISS flat is ten times faster from about 400 queries at once than below); the table shows medians,
ratios of medians, recall@10 against fp64 brute force, and bytes a vector. Exact search's memory beyond the mapped files
is watched in a process of its own. Part `answers`: `mcontriever search` over 100,000 documents from a cold start, and
warm queries in one process. It writes results/search-PART.json with the command and the machine's facts. On a machine
that others use too, `--busy` takes one thread and counts its processor's seconds; it writes nothing.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
from drawn_store import SHARD_ROWS, embeddings_like, make_store, unit
from result_files import RESULTS, machine_facts, show_and_keep
from watched_memory import watched_memory

from mcontriever.encoder import Encoder
from mcontriever.progress import setup_logging
from mcontriever.retrieval.searcher import Index
from mcontriever.retrieval.store.embedding_store import EmbeddingStore
from mcontriever.retrieval.store.store_encoder import encoder_entry
from mcontriever.retrieval.vector_search.exact import ExactSearch
from mcontriever.retrieval.vector_search.index_choice import build, tune
from mcontriever.shipped import ATLAS
from mcontriever.texts.documents import Document, read_documents
from mcontriever.tokenizer import train_tokenizer
from mcontriever.tokens import load_tokenizer

OURS, FLAT = "exact (ours)", "FAISS flat"
K = 10
SINGLE_QUERIES = 20
WARM_QUERIES = 50
SMALL = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}

Search = Callable[[np.ndarray], np.ndarray]


def main() -> None:
    options = parse_options()
    setup_logging("warning")
    threads = 1 if options.busy else os.cpu_count() or 1
    torch.set_num_threads(threads)
    faiss.omp_set_num_threads(threads)
    clock = time.process_time if options.busy else time.perf_counter
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        parts = {"vectors": compare_searches, "answers": time_answers}
        found = parts[options.part](Path(scratch), options, clock)
    shown = {name: value for name, value in vars(options).items() if name not in ("scratch", "model", "output")}
    report = {
        "part": options.part,
        "command": f"python benchmarks/speed/search.py {' '.join(sys.argv[1:])}",
        "options": shown,
        "machine": machine_facts("torch", "faiss-cpu", "numpy"),
        **found,
    }
    show_and_keep(report, options.output or (None if options.busy else RESULTS / f"search-{options.part}.json"))


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--part", choices=("vectors", "answers"), default="vectors")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--batches", type=int, nargs="+", default=[100, 1000], help="queries at once")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dtype", choices=("fp32", "fp16", "int8"), default="fp32")
    parser.add_argument("--kinds", nargs="*", default=["flat-int8", "hnsw", "ivf-sq", "ivf-pq", "rabitq"])
    parser.add_argument("--recall", type=float, default=0.95)
    parser.add_argument("--model", help="answers: a model folder instead of random weights of 6 layers, 384 wide")
    parser.add_argument("--scratch", help="where the stores go; they are removed afterwards")
    parser.add_argument("--busy", action="store_true")
    parser.add_argument("--output", type=Path, help="where the result goes, also with --busy")
    return parser.parse_args()


# ---- part vectors


def compare_searches(scratch: Path, options: argparse.Namespace, clock: Callable[[], float]) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    draw = embeddings_like(rng, options.dimension)
    store = make_store(
        scratch / "store", draw, options.rows, atlas_document, options.dtype, encoder=None, keeps_text=False
    )
    count = max(options.batches)
    near = store.take(rng.integers(0, options.rows, count))
    queries = unit(near + 0.5 * draw(count) / np.sqrt(options.dimension) + 0.3 * draw(count))
    contenders, sizes, build_seconds = make_contenders(store, options)
    wanted = brute_force(store, queries)
    seconds: dict[str, dict[int, list[float]]] = {name: defaultdict(list) for name in contenders}
    recalls: dict[str, list[float]] = defaultdict(list)
    for _ in range(options.rounds):
        for name, search in contenders.items():
            for batch in options.batches:
                started = clock()
                found = search(queries[:batch])
                seconds[name][batch].append((clock() - started) / batch)
                shares = [len(np.intersect1d(a, b)) / K for a, b in zip(found, wanted[:batch], strict=True)]
                recalls[name].append(float(np.mean(shares)))
            for query, nearest in zip(queries[:SINGLE_QUERIES], wanted, strict=False):
                started = clock()
                found = search(query[None])
                seconds[name][1].append(clock() - started)
                recalls[name].append(len(np.intersect1d(found[0], nearest)) / K)
    medians = {name: {size: statistics.median(values) for size, values in of.items()} for name, of in seconds.items()}
    table = {
        name: {
            "at_once": {str(batch): speed_at(medians, name, batch) for batch in (1, *options.batches)},
            "alone_ms": round(medians[name][1] * 1e3, 3),
            "recall_at_10": round(float(np.mean(recalls[name])), 4),
            "bytes_per_vector": round(sizes[name] / options.rows, 1),
            "build_seconds": round(build_seconds.get(name, 0), 1),
        }
        for name in contenders
    }
    return {"contenders": table, "exact_memory": watched_memory(prepared_search, store.folder, queries)}


@cache
def atlas_documents() -> list[Document]:
    return [document for path in ATLAS.glob("*/corpus.jsonl") for document in read_documents(path)]


def atlas_document(row: int) -> Document:
    """The atlas's texts over and over."""
    source = atlas_documents()[row % len(atlas_documents())]
    return Document(str(row), source.text, source.title, source.language)


def speed_at(medians: dict[str, dict[int, float]], name: str, batch: int) -> dict[str, float]:
    return {
        "queries_per_second": round(1 / medians[name][batch], 1),
        "times_faiss_flat": round(medians[FLAT][batch] / medians[name][batch], 2),
        "times_our_exact": round(medians[OURS][batch] / medians[name][batch], 2),
    }


def make_contenders(
    store: EmbeddingStore, options: argparse.Namespace
) -> tuple[dict[str, Search], dict[str, float], dict[str, float]]:
    exact, flat = ExactSearch(store), faiss.IndexFlatIP(options.dimension)
    for start in range(0, len(store), SHARD_ROWS):
        flat.add(store.take(np.arange(start, min(start + SHARD_ROWS, len(store)))))
    contenders: dict[str, Search] = {
        OURS: lambda queries: exact.search(queries, K)[1],
        FLAT: lambda queries: flat.search(queries, K)[1],
    }
    stored_bytes = {"fp32": 4, "fp16": 2, "int8": 1}[options.dtype] * options.dimension * len(store)
    sizes, build_seconds = {OURS: stored_bytes, FLAT: 4 * options.dimension * len(store)}, {}
    for kind in options.kinds:
        started = time.perf_counter()
        index, _ = tune(build(store, kind, 4 << 30), options.recall)
        build_seconds[kind] = time.perf_counter() - started
        with tempfile.TemporaryDirectory() as folder:
            index.save(Path(folder))
            sizes[kind] = sum(path.stat().st_size for path in Path(folder).iterdir())
        contenders[kind] = (lambda made: lambda queries: made.search(queries, K)[1])(index)
    return contenders, sizes, build_seconds


def brute_force(store: EmbeddingStore, queries: np.ndarray) -> np.ndarray:
    best = [(np.zeros((len(queries), 0)), np.zeros((len(queries), 0), dtype=np.int64))]
    for start in range(0, len(store), SHARD_ROWS):
        rows = np.arange(start, min(start + SHARD_ROWS, len(store)))
        scores = np.concatenate(
            [best[0][0], queries.astype(np.float64) @ store.take(rows).T.astype(np.float64)], axis=1
        )
        numbers = np.concatenate([best[0][1], np.broadcast_to(rows, (len(queries), len(rows)))], axis=1)
        order = np.argpartition(-scores, min(K, scores.shape[1] - 1), axis=1)[:, :K]
        best[0] = (np.take_along_axis(scores, order, 1), np.take_along_axis(numbers, order, 1))
    return best[0][1]


def prepared_search(folder: Path, queries: np.ndarray) -> Callable[[], object]:
    store = EmbeddingStore.open(folder)
    torch.ones(64, 64) @ torch.ones(64, 64)
    return partial(ExactSearch(store).search, queries, K)


# ---- part answers


def time_answers(scratch: Path, options: argparse.Namespace, clock: Callable[[], float]) -> dict[str, Any]:
    model = Path(options.model) if options.model else make_model(scratch / "model")
    encoder = Encoder.load(model)
    draw = embeddings_like(np.random.default_rng(0), encoder.dimension)
    entry = encoder_entry(str(model), encoder)
    store = make_store(scratch / "store", draw, options.documents, atlas_document, "fp16", encoder=entry)
    texts = [document.text for document in read_documents(next(ATLAS.glob("*/corpus.jsonl")))]
    command = [sys.executable, "-m", "mcontriever", "-q", "search", str(store.folder), "where is the river?", "--json"]
    cold = {"dense": [], "bm25": []}  # type: dict[str, list[float]]
    for _ in range(options.rounds + 1):  # the first makes the BM25 index, and is not counted
        for mode, seconds in cold.items():
            started = child_clock(options.busy)
            subprocess.run([*command, "--mode", mode], check=True, stdout=subprocess.DEVNULL)
            seconds.append(child_clock(options.busy) - started)
    index = Index(store, encoder=encoder)
    warm = {"dense": [], "bm25": [], "hybrid": []}  # type: dict[str, list[float]]
    for mode in warm:
        index.search("a first question", mode=mode)
    for number in range(WARM_QUERIES):
        question = " ".join(texts[number % len(texts)].split()[:12])
        for mode, seconds in warm.items():
            started = clock()
            index.search(question, mode=mode)
            seconds.append(clock() - started)
    return {
        "documents": options.documents,
        "cold_seconds": {mode: round(statistics.median(values[1:]), 3) for mode, values in cold.items()},
        "first_seconds": {mode: round(values[0], 3) for mode, values in cold.items()},
        "warm_ms": {mode: round(statistics.median(values) * 1e3, 2) for mode, values in warm.items()},
    }


def child_clock(busy: bool) -> float:
    """Wall time, or the processor's seconds of the processes that were started and waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime if busy else time.perf_counter()


def make_model(folder: Path) -> Path:
    texts: dict[str, list[str]] = {}
    for document in atlas_documents():
        texts.setdefault(document.language, []).append(document.text)
    train_tokenizer(texts, folder / "tokenizer", vocabulary=2000)
    Encoder.from_random(SMALL, load_tokenizer(str(folder / "tokenizer")), max_length=256).save(folder / "model")
    return folder / "model"


if __name__ == "__main__":
    main()
