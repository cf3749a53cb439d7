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
import json
import logging
import os
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ["TOKENIZERS_PARALLELISM"] = "false"

import numpy as np
import torch
from bare_loop import bare_loop
from torch.nn.functional import cross_entropy
from transformers.utils.logging import disable_progress_bar

from mcontriever.encoder import Encoder
from mcontriever.pretraining.crops import IndependentCrops
from mcontriever.pretraining.moco import MoCo
from mcontriever.pretraining.pairs import PairLoader, TokenPairs
from mcontriever.pretraining.temperature import Temperature
from mcontriever.processor import instruction_sets, trains_in_bf16
from mcontriever.ragged import Ragged
from mcontriever.shipped import ATLAS
from mcontriever.texts.documents import read_documents
from mcontriever.tokens import load_tokenizer, tokenize_texts
from mcontriever.training.batch_prefetch import Prefetch
from mcontriever.training.process_group import join_process_group

RESULTS = Path(__file__).parent / "results"
SIZES = {
    "small": {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536},
    "base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072},
}
WINDOW, WINDOWS, QUEUE, TEMPERATURE, RATE = 256, 4096, 4096, 0.05, 5e-5
Timed = Callable[[int], tuple[float, float]]  # steps -> seconds, tokens


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
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    disable_progress_bar()
    if options.busy:
        os.environ["OMP_NUM_THREADS"] = "1"
        torch.set_num_threads(1)
    device = join_process_group() if options.device == "cuda" else cpu()
    with tempfile.TemporaryDirectory() as scratch:
        tokenizer = load_tokenizer(str(make_tokenizer(Path(scratch))))
        windows = make_windows(tokenizer)
        contenders = {
            "ours fp32": ours(options, device, tokenizer, windows, None),
            "plain Contriever": plain_contriever(options, device, tokenizer, windows),
            "sentence-transformers fp32": their_trainer(options, device, tokenizer, windows, Path(scratch), bf16=False),
        }
        if trains_in_bf16():  # emulated, a step takes many times as long
            contenders |= {
                "ours bf16": ours(options, device, tokenizer, windows, "bfloat16"),
                "sentence-transformers bf16": their_trainer(
                    options, device, tokenizer, windows, Path(scratch), bf16=True
                ),
            }
        os.environ.pop("LOCAL_RANK", None)  # DeepSpeed wanted it; accelerate would take it for a cluster
        rates = compare(contenders, options)
    report = make_report(rates, options, device)
    show(report)
    if options.output or not options.busy:
        path = options.output or RESULTS / f"train_step-{options.size}-{options.device}.json"
        path.write_text(json.dumps(report, indent=2) + "\n")


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--size", choices=list(SIZES), default="small")
    parser.add_argument("--rows", type=int, default=32, help="pairs in a batch")
    parser.add_argument("--vocabulary", type=int, default=32_000, help="rows of the embedding matrix")
    parser.add_argument("--steps", type=int, default=4, help="of each contender in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--busy", action="store_true")
    parser.add_argument("--output", type=Path, help="where the result goes, also with --busy")
    return parser.parse_args()


def cpu() -> torch.device:
    os.environ["DS_ACCELERATOR"] = "cpu"
    join_process_group()
    return torch.device("cpu")


def make_tokenizer(scratch: Path) -> Path:
    from mcontriever.preparation.vocabulary import train_tokenizer

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


def make_encoder(options: argparse.Namespace, tokenizer: Any) -> Encoder:
    architecture = {**SIZES[options.size], "vocab_size": options.vocabulary}
    return Encoder.from_random(architecture, tokenizer, seed=1, max_length=WINDOW + 2)


def ours(
    options: argparse.Namespace, device: torch.device, tokenizer: Any, windows: np.ndarray, precision: str | None
) -> Timed:
    """The training loop itself, without logs and checkpoints."""
    encoder = make_encoder(options, tokenizer)
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
        max_length=WINDOW + 2,
    )
    loop = bare_loop(encoder, objective, block, loader.batch, options.rows, device)

    def timed(steps: int) -> tuple[float, float]:
        batches = Prefetch(loop.source.order.endlessly(loop.state.samples), loader.batch)
        before = loop.state.tokens
        seconds = clocked(lambda: [loop.update(batches) for _ in range(steps)], options)
        batches.close()
        return seconds, loop.state.tokens - before

    return timed


def plain_contriever(options: argparse.Namespace, device: torch.device, tokenizer: Any, windows: np.ndarray) -> Timed:
    """The step as the published code takes it."""
    query_model = make_encoder(options, tokenizer).backbone.to(device).train()
    key_model = make_encoder(options, tokenizer).backbone.to(device).train()
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

    def timed(steps: int) -> tuple[float, float]:
        tokens: list[int] = []
        seconds = clocked(lambda: tokens.extend(step() for _ in range(steps)), options)
        return seconds, sum(tokens)

    return timed


def their_trainer(
    options: argparse.Namespace,
    device: torch.device,
    tokenizer: Any,
    windows: np.ndarray,
    scratch: Path,
    *,
    bf16: bool,
) -> Timed:
    """Their trainer; a step is what lies between the ends of two, so that its data loading counts."""
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.losses import MultipleNegativesRankingLoss
    from transformers import PrinterCallback, TrainerCallback

    folder = make_encoder(options, tokenizer).save(scratch / f"model-{bf16}")
    model = SentenceTransformer(str(folder), device=str(device))
    pairs = WindowsInMemory(windows).draw(np.arange(WINDOWS))
    columns = {"anchor": pairs.queries.to_lists(), "positive": pairs.keys.to_lists()}
    data = Dataset.from_dict({name: tokenizer.batch_decode(rows) for name, rows in columns.items()})
    clock = time.process_time if options.busy else time.perf_counter

    class Ends(TrainerCallback):
        def __init__(self) -> None:
            self.at: list[float] = []

        def on_step_end(self, *arguments: Any, **named: Any) -> None:
            if device.type == "cuda":
                torch.cuda.synchronize()
            self.at.append(clock())

    arguments = {
        "output_dir": str(scratch / "their-run"),
        "per_device_train_batch_size": options.rows,
        "learning_rate": RATE,
        "bf16": bf16,
        "use_cpu": device.type == "cpu",
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "logging_strategy": "no",
    }

    def timed(steps: int) -> tuple[float, float]:
        """One step more than is counted: the first one sets up."""
        ends, tokens = Ends(), []
        trainer = SentenceTransformerTrainer(
            model=model,
            args=SentenceTransformerTrainingArguments(**arguments, max_steps=steps + 1),
            train_dataset=data,
            loss=MultipleNegativesRankingLoss(model, scale=1 / TEMPERATURE),
            callbacks=[ends],
        )
        trainer.remove_callback(PrinterCallback)
        collator = type(trainer.data_collator)

        class Counting(collator):  # type: ignore[misc, valid-type]
            def __call__(self, features: Any) -> Any:
                batch = super().__call__(features)
                tokens.append(sum(int(value.sum()) for name, value in batch.items() if name.endswith("attention_mask")))
                return batch

        trainer.data_collator.__class__ = Counting
        trainer.train()
        return ends.at[-1] - ends.at[0], float(sum(tokens[1 : steps + 1]))

    return timed


def clocked(work: Callable[[], object], options: argparse.Namespace) -> float:
    clock = time.process_time if options.busy else time.perf_counter
    started = clock()
    work()
    if options.device == "cuda":
        torch.cuda.synchronize()
    return clock() - started


def compare(contenders: dict[str, Timed], options: argparse.Namespace) -> dict[str, list[float]]:
    """Tokens per second of every contender in every round, after one round that does not count."""
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for timed in contenders.values():
        timed(2)
    for _ in range(options.rounds):
        for name, timed in contenders.items():
            seconds, tokens = timed(options.steps)
            rates[name].append(tokens / seconds)
    return rates


def make_report(rates: dict[str, list[float]], options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    medians = {name: statistics.median(values) for name, values in rates.items()}
    best = "ours bf16" if "ours bf16" in medians else "ours fp32"
    report = {
        "command": f"python benchmarks/speed/train_step.py --device {options.device} --size {options.size} "
        f"--rows {options.rows} --vocabulary {options.vocabulary} --steps {options.steps} --rounds {options.rounds}",
        "machine": {
            "processor": torch.cuda.get_device_name() if device.type == "cuda" else platform.machine(),
            "instruction_sets": sorted(instruction_sets()),
            "cores": len(os.sched_getaffinity(0)),
            "threads": torch.get_num_threads(),
        },
        "versions": {name: version(name) for name in ("torch", "deepspeed", "sentence-transformers", "transformers")},
        "tokens_per_second": {name: round(value) for name, value in medians.items()},
        f"{best.replace(' ', '_')}_is_times": {
            name: round(medians[best] / value, 2) for name, value in medians.items() if name != best
        },
    }
    if device.type == "cuda":
        report["utilisation"] = utilisation(medians["ours bf16"], options, device)
    return report


def utilisation(tokens_per_second: float, options: argparse.Namespace, device: torch.device) -> dict[str, float]:
    """Model arithmetic a second (queries forward and backward, keys forward) against the card's own matrix rate."""
    from mcontriever.training.memory_estimate import Architecture

    size = Architecture.of({**SIZES[options.size], "vocab_size": options.vocabulary})
    length = WINDOW * 0.3 + 2
    per_token = (3 * size.forward_flops(0.5, length) + size.forward_flops(0.5, length)) * tokens_per_second
    square = torch.randn(8192, 8192, device=device, dtype=torch.bfloat16)
    for _ in range(3):
        square @ square
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(20):
        square @ square
    torch.cuda.synchronize()
    measured = 20 * 2 * 8192**3 / (time.perf_counter() - started)
    return {
        "model_teraflops": per_token / 1e12,
        "measured_bf16_teraflops": measured / 1e12,
        "share": per_token / measured,
    }


def show(report: dict[str, Any]) -> None:
    (best,) = (name for name in report if name.endswith("_is_times"))
    for name, rate in report["tokens_per_second"].items():
        ratio = report[best].get(name, 1.0)
        print(f"{name:<28} {rate:>9,} tokens/s   {best.removesuffix('_is_times')} is {ratio:.2f} times as fast")
    if "utilisation" in report:
        print({name: round(value, 3) for name, value in report["utilisation"].items()})


if __name__ == "__main__":
    main()
