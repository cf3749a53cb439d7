"""What train_step.py and finetune_step.py share: the loop of `mcontriever train`, random models, alternating rounds."""

import argparse
import logging
import os
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mcontriever.encoder import Encoder
from mcontriever.preparation.vocabulary import train_tokenizer
from mcontriever.shipped import ATLAS
from mcontriever.texts.documents import read_documents
from mcontriever.tokens import tokenize_texts
from mcontriever.training.batch_prefetch import Prefetch
from mcontriever.training.data_order import DataOrder
from mcontriever.training.engine import WholeEncoder, start_engine
from mcontriever.training.engine_settings import complete_settings
from mcontriever.training.learner import Learner
from mcontriever.training.loop import BatchSource, TrainingLoop
from mcontriever.training.process_group import join_process_group
from mcontriever.training.run_checkpoints import RunCheckpoints
from mcontriever.training.run_report import RunReport
from mcontriever.training.run_state import RunState
from mcontriever.training.schedule import Schedule
from mcontriever.training.stop_request import StopRequest

SIZES = {
    "tiny": {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64},
    "small": {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536},
    "base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072},
}
WINDOW, WINDOWS = 256, 4096
STEPS = 10**6  # more than any benchmark takes
LIBRARIES = ("torch", "deepspeed", "sentence-transformers", "transformers")
Timed = Callable[[int], tuple[float, float]]  # steps -> seconds, tokens


def parser_of_steps(description: str | None, *, rows: int, rows_help: str, steps: int) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--size", choices=list(SIZES), default="small")
    parser.add_argument("--rows", type=int, default=rows, help=rows_help)
    parser.add_argument("--vocabulary", type=int, default=32_000, help="rows of the embedding matrix")
    parser.add_argument("--steps", type=int, default=steps, help="of each contender in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--busy", action="store_true")
    return parser


def start(options: argparse.Namespace) -> torch.device:
    """The device, in a process group of one, without other libraries' remarks."""
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    if options.busy:
        os.environ["OMP_NUM_THREADS"] = "1"
        torch.set_num_threads(1)
    if options.device == "cuda":
        return join_process_group()
    os.environ["DS_ACCELERATOR"] = "cpu"
    join_process_group()
    return torch.device("cpu")


def make_tokenizer(scratch: Path) -> Path:
    texts: dict[str, list[str]] = {}
    for document in read_documents(ATLAS / "train" / "corpus.jsonl"):
        texts.setdefault(document.language, []).append(document.text)
    return train_tokenizer(texts, scratch / "tokenizer", vocabulary=4000)


def make_windows(tokenizer: Any) -> np.ndarray:
    """Windows at random places of all of the atlas's tokens in a row."""
    texts = [document.text for document in read_documents(ATLAS / "train" / "corpus.jsonl")]
    tokens, _ = tokenize_texts(tokenizer, texts, max_length=10_000)
    starts = np.random.default_rng(0).integers(0, len(tokens) - WINDOW, size=WINDOWS)
    return tokens[starts[:, None] + np.arange(WINDOW)]


def make_encoder(options: argparse.Namespace, tokenizer: Any, max_length: int) -> Encoder:
    architecture = {**SIZES[options.size], "vocab_size": options.vocabulary}
    return Encoder.from_random(architecture, tokenizer, seed=1, max_length=max_length)


def timed_loop(
    encoder: Encoder,
    objective: torch.nn.Module,
    block: dict[str, Any],
    make_batch: Callable[[np.ndarray], Any],
    options: argparse.Namespace,
    device: torch.device,
) -> Timed:
    """The loop of `mcontriever train` in one process, without logs and checkpoints.

    `block` is the section `deepspeed` of a configuration.
    """
    settings = complete_settings(block, world_size=1, total_steps=STEPS)
    whole_encoder = WholeEncoder(encoder, settings)
    engine = start_engine(objective, settings)
    engine.train()
    loop = TrainingLoop(
        learner=Learner(engine, device, seed=0),
        source=BatchSource(DataOrder(0, 1, options.rows, 1), make_batch, []),
        state=RunState(),
        schedule=Schedule(STEPS, STEPS, log_every=STEPS, save_every=STEPS, evaluate_every=STEPS, patience=None),
        report=RunReport(Path(), None, history=[], advice=lambda history: None, device=device),
        checkpoints=RunCheckpoints(Path(), engine, whole_encoder, lambda state: ("", {}), {}, 1),
        evaluation=None,
        stop=StopRequest(),
    )

    def timed(steps: int) -> tuple[float, float]:
        batches = Prefetch(loop.source.order.endlessly(loop.state.samples), make_batch)
        before = loop.state.tokens
        seconds = clocked(lambda: [loop.update(batches) for _ in range(steps)], options)
        batches.close()
        return seconds, loop.state.tokens - before

    return timed


def timed_steps(step: Callable[[], int], options: argparse.Namespace) -> Timed:
    """`step` returns its tokens."""

    def timed(steps: int) -> tuple[float, float]:
        tokens: list[int] = []
        seconds = clocked(lambda: tokens.extend(step() for _ in range(steps)), options)
        return seconds, sum(tokens)

    return timed


def clocked(work: Callable[[], object], options: argparse.Namespace) -> float:
    clock = time.process_time if options.busy else time.perf_counter
    started = clock()
    work()
    if options.device == "cuda":
        torch.cuda.synchronize()
    return clock() - started


def compare(contenders: dict[str, Timed], options: argparse.Namespace) -> dict[str, float]:
    """The median of tokens per second of every contender over the rounds, after one round that does not count."""
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for timed in contenders.values():
        timed(2)
    for _ in range(options.rounds):
        for name, timed in contenders.items():
            seconds, tokens = timed(options.steps)
            rates[name].append(tokens / seconds)
    return {name: statistics.median(values) for name, values in rates.items()}


def ratios(medians: dict[str, float], best: str) -> dict[str, float]:
    return {name: round(medians[best] / value, 2) for name, value in medians.items() if name != best}
