"""Documents per second of `Encoder.embed_documents` beside sentence-transformers, alternating in one run.

    python benchmarks/speed/embed.py --size base --documents 256 --rounds 5

Random weights (speed does not depend on them), random subwords of XLM-R-like text, log-normal lengths with a median of
120 tokens. Each round times every contender once on the same documents; the table shows medians and ratios of medians.
It writes results/embed-SIZE-DEVICE.json with the command and the machine's facts. On a machine that others use too,
`--busy` takes one thread and counts its processor's seconds; it writes nothing.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from result_files import RESULTS, keep, machine_facts
from sentence_transformers import SentenceTransformer

from mcontriever.encoder import Encoder
from mcontriever.processor import multiplies_bf16
from mcontriever.tokenizer import train_tokenizer
from mcontriever.tokens import load_tokenizer

SIZES = {
    "base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072},
    "small": {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536},
    "tiny": {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128},
}
XLMR_VOCABULARY = 250_002
MEDIAN_TOKENS, SPREAD, MAX_LENGTH = 120, 0.5, 512
REFERENCE = "sentence-transformers fp32"


def main() -> None:
    options = parse_options()
    if options.busy:
        torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        folder = make_model(Path(scratch), options.size)
        texts = make_texts(folder, options.documents, options.seed)
        contenders = make_contenders(folder, options.device, options.precisions)
        seconds, cosines = measure(
            contenders, texts, options.rounds, time.process_time if options.busy else time.perf_counter
        )
    report = summarise(options, seconds, cosines)
    print_table(report)
    if options.output or (options.size != "tiny" and not options.busy):
        keep(report, options.output or RESULTS / f"embed-{options.size}-{options.device}.json")


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=sorted(SIZES), default="small")
    parser.add_argument("--documents", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precisions", nargs="+", default=["float32", "bfloat16"], help="ours: float32 bfloat16 int8")
    parser.add_argument("--busy", action="store_true", help="one thread, processor seconds, no result file")
    parser.add_argument("--output", type=Path, help="where the result goes, also with --busy")
    return parser.parse_args()


def make_model(scratch: Path, size: str) -> Path:
    """A model with as many vocabulary rows as XLM-R: the lookup of a vector is part of the work."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    chance = np.random.default_rng(0)
    words = ["".join(chance.choice(list(letters), chance.integers(2, 9))) for _ in range(3000)]
    lines = [" ".join(chance.choice(words, 20)) for _ in range(400)]
    tokenizer = load_tokenizer(train_tokenizer({"xx": lines}, scratch / "tokenizer", 2000))
    vocabulary = XLMR_VOCABULARY if size != "tiny" else len(tokenizer)
    config = {**SIZES[size], "vocab_size": vocabulary}
    return Encoder.from_random(config, tokenizer, max_length=MAX_LENGTH).save(scratch / "model")


def make_texts(folder: Path, count: int, seed: int) -> list[str]:
    tokenizer = load_tokenizer(folder)
    chance = np.random.default_rng(seed)
    lengths = np.exp(chance.normal(np.log(MEDIAN_TOKENS), SPREAD, count)).astype(int).clip(8, MAX_LENGTH - 2)
    return [tokenizer.decode(chance.integers(5, len(tokenizer) - 1, length)) for length in lengths]


def make_contenders(folder: Path, device: str, precisions: list[str]) -> dict[str, Callable[[list[str]], np.ndarray]]:
    def reference(dtype: torch.dtype) -> Callable[[list[str]], np.ndarray]:
        model = SentenceTransformer(str(folder), device=device, model_kwargs={"dtype": dtype})
        return lambda texts: np.asarray(model.encode(texts, convert_to_tensor=True).float().cpu())

    half = torch.float16 if device == "cuda" else torch.bfloat16
    contenders = {REFERENCE: reference(torch.float32)}
    if device == "cuda" or multiplies_bf16():  # emulated, it is several times slower than float32
        contenders[f"sentence-transformers {str(half).removeprefix('torch.')}"] = reference(half)
    for precision in precisions:
        encoder = Encoder.load(folder, device=device, precision=precision)
        contenders[f"mcontriever {precision}"] = encoder.embed_documents
    return contenders


def measure(
    contenders: dict[str, Callable[[list[str]], np.ndarray]],
    texts: list[str],
    rounds: int,
    clock: Callable[[], float],
) -> tuple[dict[str, list[float]], dict[str, float]]:
    expected = contenders[REFERENCE](texts[:32])
    cosines = {name: smallest_cosine(embed(texts[:32]), expected) for name, embed in contenders.items()}
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for round_number in range(rounds):
        for name, embed in contenders.items():
            start = clock()
            embed(texts)
            seconds[name].append(clock() - start)
        print(f"round {round_number + 1} of {rounds}", file=sys.stderr)
    return seconds, cosines


def smallest_cosine(left_NH: np.ndarray, right_NH: np.ndarray) -> float:
    norms_N = np.linalg.norm(left_NH, axis=1) * np.linalg.norm(right_NH, axis=1)
    return float(((left_NH * right_NH).sum(1) / norms_N).min())


def summarise(
    options: argparse.Namespace, seconds: dict[str, list[float]], cosines: dict[str, float]
) -> dict[str, Any]:
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    names = list(medians)
    second = next((name for name in names[1:] if name.startswith("sentence")), REFERENCE)
    return {
        "command": " ".join(["python", "benchmarks/speed/embed.py", *sys.argv[1:]]),
        "machine": machine_facts("torch", "transformers", "sentence-transformers", device=options.device),
        "model": {**SIZES[options.size], "vocabulary": XLMR_VOCABULARY},
        "documents": options.documents,
        "median_tokens": MEDIAN_TOKENS,
        "results": [
            {
                "name": name,
                "documents_per_second": round(options.documents / medians[name], 2),
                "seconds": [round(value, 3) for value in seconds[name]],
                "times_first": round(medians[names[0]] / medians[name], 2),
                "times_second": round(medians[second] / medians[name], 2),
                "smallest_cosine_to_fp32": round(cosines[name], 6),
            }
            for name in names
        ],
    }


def print_table(report: dict[str, Any]) -> None:
    print(f"{'':34s} docs/s   x fp32  x half   cosine")
    for row in report["results"]:
        ratios = f"{row['times_first']:8.2f} {row['times_second']:7.2f} {row['smallest_cosine_to_fp32']:8.5f}"
        print(f"{row['name']:34s} {row['documents_per_second']:6.1f} {ratios}")


if __name__ == "__main__":
    main()
