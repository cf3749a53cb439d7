"""What MTEB adds: our encoder and BM25 through `mcontriever benchmark`'s classes beside the bare libraries.

    python benchmarks/speed/benchmark_overhead.py --documents 600 --queries 200 --rounds 5

Bare is `embed_documents` and `embed_queries` of the same texts, or bm25s's own tokenize, index and retrieve of the best
1,000. Beside each stand what MTEB calls for it (`index` and `search`, which for the encoder includes the exact search)
and the whole task with MTEB's scoring of a thousand hits per query and its result files. Random weights, texts made of
the atlas's words with log-normal lengths (median 120 words). Medians of alternating rounds, and ratios of medians.
Writes results/benchmark_overhead.json. `--busy` takes one thread, counts processor seconds, and writes nothing.
"""

import argparse
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"

import bm25s
import numpy as np
import pytrec_eval
import torch
from datasets import Dataset
from result_files import RESULTS, machine_facts, show_and_keep

from mcontriever.assembly.benchmarked_models import searches
from mcontriever.encoder import Encoder
from mcontriever.evaluation.beir_tasks import beir_task
from mcontriever.evaluation.model_specs import parse_models
from mcontriever.evaluation.mteb_encoder import MtebEncoder
from mcontriever.evaluation.mteb_run import run_task
from mcontriever.evaluation.mteb_search import EncoderSearch, document_texts
from mcontriever.shipped import ATLAS
from mcontriever.texts.documents import read_documents
from mcontriever.texts.json_lines import write_json_lines
from mcontriever.tokenizer import train_tokenizer
from mcontriever.tokens import load_tokenizer

ARCHITECTURE = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
TOP_K = 1000


def main() -> None:
    options = parse_options()
    clock = time.process_time if options.busy else time.perf_counter
    if options.busy:
        torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as scratch:
        encoder = make_encoder(Path(scratch))
        dense = beir_task(make_set(Path(scratch) / "dense", options.documents, options.queries))
        lexical = beir_task(make_set(Path(scratch) / "lexical", options.lexical_documents, options.lexical_queries))
        contenders = {
            "encoder": encoder_contenders(encoder, dense, Path(scratch)),
            "bm25": bm25_contenders(lexical, Path(scratch)),
        }
        report = {
            "command": "python benchmarks/speed/benchmark_overhead.py",
            "options": vars(options),
            "machine": machine_facts("torch", "mteb", "bm25s", "datasets"),
            **{kind: compare(found, options.rounds, clock) for kind, found in contenders.items()},
        }
    show_and_keep(report, None if options.busy else RESULTS / "benchmark_overhead.json")


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=int, default=600)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--lexical-documents", type=int, default=20_000)
    parser.add_argument("--lexical-queries", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--busy", action="store_true", help="one thread, processor seconds, no result file")
    return parser.parse_args()


def make_encoder(scratch: Path) -> Encoder:
    texts = {"en": [document.text for document in read_documents(ATLAS / "train" / "corpus.jsonl")]}
    tokenizer = load_tokenizer(str(train_tokenizer(texts, scratch / "tokenizer", 2000)))
    return Encoder.from_random(ARCHITECTURE, tokenizer, max_length=512).eval()


def make_set(folder: Path, documents: int, queries: int) -> Path:
    """Random words of the atlas: documents of a median of 120 words, queries of eight."""
    random = np.random.default_rng(0)
    words = sorted({w for d in read_documents(ATLAS / "train" / "corpus.jsonl") for w in d.text.split()})
    chances = 1 / np.arange(1, len(words) + 1)
    chances /= chances.sum()

    def text(length: int) -> str:
        return " ".join(random.choice(words, size=length, p=chances))

    lengths = np.clip(random.lognormal(np.log(120), 0.5, documents), 5, 400).astype(int)
    write_json_lines(folder / "corpus.jsonl", ({"_id": f"d{i}", "text": text(n)} for i, n in enumerate(lengths)))
    write_json_lines(folder / "queries.jsonl", ({"_id": f"q{i}", "text": text(8)} for i in range(queries)))
    (folder / "qrels").mkdir()
    judged = "".join(f"q{i}\td{i}\t1\n" for i in range(queries))
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + judged)
    return folder


def encoder_contenders(encoder: Encoder, task: Any, scratch: Path) -> dict[str, Callable[[], None]]:
    corpus, queries = parts_of(task)
    documents, questions = document_texts(corpus), list(queries["text"])
    model = MtebEncoder(encoder, "overhead")

    def bare() -> None:
        encoder.embed_documents(documents)
        encoder.embed_queries(questions)

    def new_search() -> EncoderSearch:
        return EncoderSearch(model, model.mteb_model_meta)

    return {"bare": bare, **through_mteb(new_search, task, scratch)}


def bm25_contenders(task: Any, scratch: Path) -> dict[str, Callable[[], None]]:
    corpus, queries = parts_of(task)
    documents, questions = document_texts(corpus), list(queries["text"])
    judged = task.dataset["default"]["test"]["relevant_docs"]

    def bare() -> Any:
        index = bm25s.BM25()
        index.index(bm25s.tokenize(documents, stopwords=None, show_progress=False), show_progress=False)
        asked = bm25s.tokenize(questions, stopwords=None, show_progress=False)
        return index.retrieve(asked, k=TOP_K, show_progress=False)

    def bare_and_scored() -> None:
        """What anyone has to do who wants nDCG from bm25s: the same hits through pytrec_eval."""
        rows, scores = bare()
        ids = list(corpus["id"])
        run = {
            query: {ids[row]: float(score) for row, score in zip(found, given, strict=True)}
            for query, found, given in zip(queries["id"], rows, scores, strict=True)
        }
        evaluator = pytrec_eval.RelevanceEvaluator(judged, {"ndcg_cut.10", "recall.100", "map_cut.1000", "recip_rank"})
        evaluator.evaluate(run)

    def new_search() -> Any:
        return next(searches(parse_models(["bm25"]), False, 100, "cpu"))[1]

    return {"bare": bare, "bare, scored": bare_and_scored, **through_mteb(new_search, task, scratch)}


def through_mteb(new_search: Callable[[], Any], task: Any, scratch: Path) -> dict[str, Callable[[], None]]:
    corpus, queries = parts_of(task)
    context = {"task_metadata": task.metadata, "hf_split": "test", "hf_subset": "default", "encode_kwargs": {}}

    def called() -> None:
        search = new_search()
        search.index(corpus, **context)
        search.search(queries, top_k=TOP_K, **context)

    def whole() -> None:
        with tempfile.TemporaryDirectory(dir=scratch) as output:
            run_task(new_search(), "overhead", task, ["ndcg_at_10", "recall_at_100"], Path(output))

    return {"index and search": called, "whole task": whole}


def parts_of(task: Any) -> tuple[Dataset, Dataset]:
    data = task.dataset["default"]["test"]
    return data["corpus"], data["queries"]


def compare(contenders: dict[str, Callable[[], None]], rounds: int, clock: Callable[[], float]) -> dict[str, Any]:
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, work in contenders.items():
            started = clock()
            work()
            if number:  # the first round warms up
                seconds[name].append(clock() - started)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "seconds": {name: round(value, 3) for name, value in medians.items()},
        "times bare": {name: round(value / medians["bare"], 3) for name, value in medians.items()},
    }


if __name__ == "__main__":
    main()
