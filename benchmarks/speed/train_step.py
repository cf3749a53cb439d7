"""Tokens per second of a training step: ours beside sentence-transformers' trainer and a plain Contriever step.

    python benchmarks/speed/train_step.py --rounds 5                                   two cores, 6 layers of 384
    python benchmarks/speed/train_step.py --device cuda --size base --rows 512         a GPU, XLM-R-base

The same random weights, the same texts (crops of 10 to 50 % of windows of 256 tokens of the atlas's words) and the
same number of pairs in a batch. Ours is the loop of `mcontriever train`: MoCo, DeepSpeed's engine, batches made ahead.
Sentence-transformers runs its own trainer with MultipleNegativesRankingLoss. The plain Contriever step is written out
below: padded, float32, the queue cloned, the momentum encoder updated one parameter after the other. Tokens are real
ones; padding does not count. A round times `--steps` steps of every contender, one after the other; the table shows
medians over rounds and ratios of medians. Writes results/train_step-SIZE-DEVICE.json. Needs
`accelerate`, which their trainer is made with. On a machine that others use too, `--busy` takes one thread and counts
its processor's seconds; it writes nothing.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ["TOKENIZERS_PARALLELISM"] = "false"

import numpy as np
import torch
from result_files import RESULTS, keep, machine_facts
from their_trainer import their_trainer
from torch.nn.functional import cross_entropy
from training_steps import (
    LIBRARIES,
    SIZES,
    WINDOW,
    WINDOWS,
    Timed,
    compare,
    make_encoder,
    make_tokenizer,
    make_windows,
    parser_of_steps,
    ratios,
    start,
    timed_loop,
    timed_steps,
)
from transformers.utils.logging import disable_progress_bar

from mcontriever.pretraining.crops import IndependentCrops
from mcontriever.pretraining.moco import MoCo
from mcontriever.pretraining.pairs import PairLoader, TokenPairs
from mcontriever.pretraining.temperature import Temperature
from mcontriever.processor import trains_in_bf16
from mcontriever.ragged import Ragged
from mcontriever.tokens import load_tokenizer

QUEUE, TEMPERATURE, RATE, MAX_LENGTH = 4096, 0.05, 5e-5, WINDOW + 2


class WindowsInMemory:
    """Sample i is a pair of crops of window i modulo their number."""

    def __init__(self, windows: np.ndarray) -> None:
        self.windows, self.view = windows, IndependentCrops(0.1, 0.5)

    def draw(self, samples: np.ndarray) -> TokenPairs:
        rows = Ragged.of_lengths(self.windows[samples % WINDOWS].ravel(), np.full(len(samples), WINDOW))
        queries, keys = self.view(rows, samples, seed=0)
        return TokenPairs(queries, keys, np.zeros_like(samples), samples)


def main() -> None:
    options = parse_options()
    disable_progress_bar()
    device = start(options)
    with tempfile.TemporaryDirectory() as scratch:
        tokenizer = load_tokenizer(str(make_tokenizer(Path(scratch))))
        windows = make_windows(tokenizer)
        contenders = {
            "ours fp32": ours(options, device, tokenizer, windows, None),
            "plain Contriever": plain_contriever(options, device, tokenizer, windows),
            "sentence-transformers fp32": theirs(options, device, tokenizer, windows, Path(scratch), bf16=False),
        }
        if trains_in_bf16():  # emulated, a step takes many times as long
            contenders |= {
                "ours bf16": ours(options, device, tokenizer, windows, "bfloat16"),
                "sentence-transformers bf16": theirs(options, device, tokenizer, windows, Path(scratch), bf16=True),
            }
        os.environ.pop("LOCAL_RANK", None)  # DeepSpeed wanted it; accelerate would take it for a cluster
        medians = compare(contenders, options)
    report = make_report(medians, options, device)
    show(report)
    keep(
        report,
        options.output or (None if options.busy else RESULTS / f"train_step-{options.size}-{options.device}.json"),
    )


def parse_options() -> argparse.Namespace:
    parser = parser_of_steps(__doc__, rows=32, rows_help="pairs in a batch", steps=4)
    parser.add_argument("--output", type=Path, help="where the result goes, also with --busy")
    return parser.parse_args()


def ours(
    options: argparse.Namespace, device: torch.device, tokenizer: Any, windows: np.ndarray, precision: str | None
) -> Timed:
    """The training loop itself, without logs and checkpoints."""
    encoder = make_encoder(options, tokenizer, MAX_LENGTH)
    key_dtype = torch.bfloat16 if precision else None
    objective = MoCo(encoder, temperature=Temperature(TEMPERATURE), queue_size=QUEUE, key_compute_dtype=key_dtype)
    block: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": options.rows,
        "gradient_clipping": 1.0,
        "zero_optimization": {"stage": 0},  # one process has nobody to share with
        "optimizer": {"type": "AdamW", "params": {"lr": RATE, "torch_adam": True, "fused": True}},
    }
    if precision:
        block["torch_autocast"] = {"enabled": True, "dtype": precision, "lower_precision_safe_modules": []}
    loader = PairLoader(
        WindowsInMemory(windows),
        special=encoder.special,
        first_position=encoder.first_position,
        max_length=MAX_LENGTH,
    )
    return timed_loop(encoder, objective, block, loader.batch, options, device)


def plain_contriever(options: argparse.Namespace, device: torch.device, tokenizer: Any, windows: np.ndarray) -> Timed:
    """The step as the published code takes it."""
    query_model = make_encoder(options, tokenizer, MAX_LENGTH).backbone.to(device).train()
    key_model = make_encoder(options, tokenizer, MAX_LENGTH).backbone.to(device).train()
    queue_HK = torch.nn.functional.normalize(
        torch.randn(SIZES[options.size]["hidden_size"], QUEUE, device=device), dim=0
    )
    optimizer = torch.optim.AdamW(query_model.parameters(), lr=RATE)
    source = WindowsInMemory(windows)
    seen = 0

    def embed(model: Any, rows: list[list[int]]) -> tuple[torch.Tensor, int]:
        texts = [torch.tensor([0, *row, 2]) for row in rows]
        ids = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True, padding_value=1).to(device)
        mask = ids != 1
        hidden = model(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        hidden = hidden.masked_fill(~mask[..., None], 0.0)
        return hidden.sum(1) / mask.sum(1)[..., None], int(mask.sum())

    def step() -> int:
        nonlocal seen
        pairs = source.draw(np.arange(seen, seen + options.rows))
        seen += options.rows
        queries, query_tokens = embed(query_model, pairs.queries.to_lists())
        with torch.no_grad():
            for slow, fast in zip(key_model.parameters(), query_model.parameters(), strict=True):
                slow.data = slow.data * 0.999 + fast.data * (1 - 0.999)
            keys, key_tokens = embed(key_model, pairs.keys.to_lists())
        positive = torch.einsum("nc,nc->n", queries, keys)[:, None]
        negative = queries @ queue_HK.clone().detach()
        scores = torch.cat([positive, negative], dim=1) / TEMPERATURE
        loss = cross_entropy(scores, torch.zeros(len(scores), dtype=torch.long, device=device))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        place = seen % QUEUE
        queue_HK[:, place : place + options.rows] = keys.T[:, : QUEUE - place]
        return query_tokens + key_tokens

    return timed_steps(step, options)


def theirs(
    options: argparse.Namespace,
    device: torch.device,
    tokenizer: Any,
    windows: np.ndarray,
    scratch: Path,
    *,
    bf16: bool,
) -> Timed:
    encoder = make_encoder(options, tokenizer, MAX_LENGTH)
    pairs = WindowsInMemory(windows).draw(np.arange(WINDOWS))
    return their_trainer(encoder, pairs, options, device, scratch, temperature=TEMPERATURE, rate=RATE, bf16=bf16)


def make_report(medians: dict[str, float], options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    best = "ours bf16" if "ours bf16" in medians else "ours fp32"
    report = {
        "command": f"python benchmarks/speed/train_step.py --device {options.device} --size {options.size} "
        f"--rows {options.rows} --vocabulary {options.vocabulary} --steps {options.steps} --rounds {options.rounds}",
        "machine": machine_facts(*LIBRARIES, device=options.device),
        "tokens_per_second": {name: round(value) for name, value in medians.items()},
        f"{best.replace(' ', '_')}_is_times": ratios(medians, best),
    }
    if device.type == "cuda" or best == "ours fp32":
        report["utilisation"] = utilisation(medians[best], options, device)
    return report


def utilisation(tokens_per_second: float, options: argparse.Namespace, device: torch.device) -> dict[str, float]:
    """Model arithmetic a second (queries forward and backward, keys forward) against the device's own matrix rate."""
    from mcontriever.training.memory_estimate import Architecture

    size = Architecture.of({**SIZES[options.size], "vocab_size": options.vocabulary})
    length = WINDOW * 0.3 + 2
    per_second = (3 * size.forward_flops(0.5, length) + size.forward_flops(0.5, length)) * tokens_per_second
    measured = matrix_rate(options, device)
    return {
        "model_gigaflops": per_second / 1e9,
        "measured_matrix_gigaflops": measured / 1e9,
        "share": per_second / measured,
    }


def matrix_rate(options: argparse.Namespace, device: torch.device) -> float:
    """Operations a second of products alone: bf16 on a card, float32 in the shape of a layer on a processor."""
    if device.type == "cuda":
        rows, ins, outs, dtype = 8192, 8192, 8192, torch.bfloat16
    else:
        size = SIZES[options.size]
        rows, ins, outs, dtype = 2048, size["hidden_size"], size["intermediate_size"], torch.float32
    left, right = torch.randn(rows, ins, device=device, dtype=dtype), torch.randn(ins, outs, device=device, dtype=dtype)
    clock = time.process_time if options.busy else time.perf_counter
    for counted in (3, 20):
        if device.type == "cuda":
            torch.cuda.synchronize()
        started = clock()
        for _ in range(counted):
            left @ right
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds = clock() - started
    return 2.0 * rows * ins * outs * 20 / seconds


def show(report: dict[str, Any]) -> None:
    (best,) = (name for name in report if name.endswith("_is_times"))
    for name, rate in report["tokens_per_second"].items():
        ratio = report[best].get(name, 1.0)
        print(f"{name:<28} {rate:>9,} tokens/s   {best.removesuffix('_is_times')} is {ratio:.2f} times as fast")
    if "utilisation" in report:
        print({name: round(value, 3) for name, value in report["utilisation"].items()})


if __name__ == "__main__":
    main()
