"""Tokens per second of a fine-tuning step: ours beside sentence-transformers' CachedMultipleNegativesRankingLoss.

    python benchmarks/speed/finetune_step.py --rounds 5                                  two cores, 6 layers of 384
    python benchmarks/speed/finetune_step.py --device cuda --size base --rows 512        a GPU, XLM-R-base

The same random weights and the same texts: queries of 8 to 32 tokens, a positive and a hard negative of at most 180 (a
log-normal with its median at 80, as web passages have), cut out of the atlas's words. Both bound the activations in
memory to `--sub-batch` rows and compute the exact gradient of the whole batch. Ours is the loop of `mcontriever train`;
theirs is the bare loss in bf16 autocast with AdamW, texts tokenized in the step, without the cost of their trainer.
`ours, whole batch` keeps all activations. Tokens are real ones; padding does not count. A round times `--steps` steps
of every contender, one after the other; the table shows medians over rounds. Writes
results/finetune_step-SIZE-DEVICE.json. On a machine that others use too, `--busy` takes one thread, counts its
processor's seconds, and writes nothing.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

os.environ["TOKENIZERS_PARALLELISM"] = "false"

import numpy as np
import torch
from result_files import RESULTS, machine_facts, show_and_keep
from training_steps import (
    LIBRARIES,
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

from mcontriever.finetuning.contrastive import Contrastive
from mcontriever.finetuning.examples.training_set import open_training_set
from mcontriever.finetuning.triple_objective import TripleObjective
from mcontriever.finetuning.triples import TripleLoader
from mcontriever.tokens import load_tokenizer

EXAMPLES, MAX_PASSAGE, TEMPERATURE, RATE, MAX_LENGTH = 2000, 180, 0.05, 1e-5, 256


def main() -> None:
    options = parse_options()
    device = start(options)
    with tempfile.TemporaryDirectory() as scratch:
        tokenizer = load_tokenizer(str(make_tokenizer(Path(scratch))))
        rows = make_examples(tokenizer)
        data = Path(scratch) / "train.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        contenders = {
            "ours": ours(options, device, tokenizer, data, options.sub_batch),
            "ours, whole batch": ours(options, device, tokenizer, data, None),
            "sentence-transformers cached": theirs(options, device, tokenizer, rows, Path(scratch)),
        }
        medians = compare(contenders, options)
    report = make_report(medians, options, device)
    show_and_keep(report, None if options.busy else RESULTS / f"finetune_step-{options.size}-{options.device}.json")


def parse_options() -> argparse.Namespace:
    rows_help = "queries in a batch, each with two passages"
    parser = parser_of_steps(__doc__, rows=64, rows_help=rows_help, steps=2)
    parser.add_argument("--sub-batch", type=int, default=32, help="rows whose activations are kept at a time")
    return parser.parse_args()


def make_examples(tokenizer: Any) -> list[dict[str, str]]:
    rng = np.random.default_rng(1)
    windows = make_windows(tokenizer)

    def texts(lengths: np.ndarray) -> list[str]:
        chosen = windows[rng.integers(0, len(windows), size=len(lengths))]
        return tokenizer.batch_decode([row[:length] for row, length in zip(chosen, lengths, strict=True)])

    def passages() -> list[str]:
        lengths = np.exp(rng.normal(np.log(80), 0.45, size=EXAMPLES))
        return texts(np.clip(lengths, 16, MAX_PASSAGE - 2).astype(int))

    columns = {
        "query": texts(rng.integers(6, 31, size=EXAMPLES)),
        "positive": passages(),
        "negative": passages(),
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def ours(options: argparse.Namespace, device: torch.device, tokenizer: Any, data: Path, sub_batch: int | None) -> Timed:
    """The training loop itself, without logs and checkpoints."""
    encoder = make_encoder(options, tokenizer, MAX_LENGTH)
    loss = Contrastive(temperature=TEMPERATURE)
    objective = TripleObjective(encoder=encoder, loss=loss, rows_per_sub_batch=sub_batch)
    block: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": options.rows,
        "zero_optimization": {"stage": 1},
        "optimizer": {"type": "AdamW", "params": {"lr": RATE, "torch_adam": True, "fused": True}},
        "torch_autocast": {"enabled": True, "dtype": "bfloat16", "lower_precision_safe_modules": []},
    }
    loader = TripleLoader.for_encoder(
        encoder,
        examples=open_training_set(format="columns", paths=[str(data)]),
        negatives=1,
        hard_ratio=1.0,
        query_length=34,
        passage_length=MAX_PASSAGE,
        seed=0,
    )
    return timed_loop(encoder, objective, block, loader.batch, options, device)


def theirs(
    options: argparse.Namespace, device: torch.device, tokenizer: Any, rows: list[dict[str, str]], scratch: Path
) -> Timed:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.losses import CachedMultipleNegativesRankingLoss

    folder = make_encoder(options, tokenizer, MAX_LENGTH).save(scratch / "model")
    model = SentenceTransformer(str(folder), device=str(device)).train()
    model.max_seq_length = MAX_PASSAGE
    loss = CachedMultipleNegativesRankingLoss(model, scale=1 / TEMPERATURE, mini_batch_size=options.sub_batch)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, fused=True)
    seen = 0

    def step() -> int:
        nonlocal seen
        chosen = [rows[(seen + place) % len(rows)] for place in range(options.rows)]
        seen += options.rows
        columns = [model.preprocess([row[name] for row in chosen]) for name in ("query", "positive", "negative")]
        columns = [
            {name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in column.items()}
            for column in columns
        ]
        with torch.autocast(device.type, dtype=torch.bfloat16):
            value = loss(columns, None)
        value.backward()
        optimizer.step()
        optimizer.zero_grad()
        return sum(int(column["attention_mask"].sum()) for column in columns)

    return timed_steps(step, options)


def make_report(medians: dict[str, float], options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    return {
        "command": f"python benchmarks/speed/finetune_step.py --device {options.device} --size {options.size} "
        f"--rows {options.rows} --sub-batch {options.sub_batch} --steps {options.steps} --rounds {options.rounds}",
        "machine": machine_facts(*LIBRARIES, device=options.device),
        "tokens_per_second": {name: round(value) for name, value in medians.items()},
        "ours_is_times": ratios(medians, "ours"),
    }


if __name__ == "__main__":
    main()
