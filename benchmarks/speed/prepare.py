"""`mcontriever prepare` end to end beside the bare tokenizer: the same text, the same number of processes.

    python benchmarks/speed/prepare.py --text FOLDER --tokenizer DIR --workers 2 --rounds 3

FOLDER holds JSON lines (LANG.jsonl, .gz, .xz or .zst). The bare tokenizer has its texts in memory and its vocabulary
loaded before the clock starts; `prepare` pays for everything: start, reading, filters, duplicates, checksums, report.
Rounds alternate. The peak memory is that of the largest worker. Writes results/prepare.json. On a machine that others
use too, `--busy` counts the processors' seconds instead of the clock's, and writes nothing.
"""

import argparse
import json
import multiprocessing
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from result_files import RESULTS, machine_facts, show_and_keep

BATCH = 512
POLL_SECONDS = 0.02


def main() -> None:
    options = parse_options()
    files = sorted(options.text.glob("*.jsonl*"), key=lambda path: -path.stat().st_size)
    bare, whole, peaks = [], [], []
    with tempfile.TemporaryDirectory() as scratch:
        recipe = write_recipe(files, Path(scratch))
        for _ in range(options.rounds):
            by_clock, by_processor = time_bare_tokenizer(files, options.tokenizer, options.workers)
            bare.append(by_processor if options.busy else by_clock)
            by_clock, by_processor, peak = time_prepare(
                recipe, options.tokenizer, options.workers, Path(scratch) / "out"
            )
            whole.append(by_processor if options.busy else by_clock)
            peaks.append(peak)
            print(f"bare {bare[-1]:.1f} s, prepare {whole[-1]:.1f} s, peak {peaks[-1]:.0f} MB a process")
    ratios = [of_prepare / of_bare for of_prepare, of_bare in zip(whole, bare, strict=True)]
    report = {
        "command": " ".join(["python", "benchmarks/speed/prepare.py", *shown_arguments(options)]),
        "machine": machine_facts(),
        "text_megabytes": round(sum(text_bytes(path) for path in files) / 1e6, 1),
        "bare_tokenizer_seconds": [round(value, 2) for value in bare],
        "prepare_seconds": [round(value, 2) for value in whole],
        "ratio": round(statistics.median(ratios), 3),
        "peak_megabytes_of_the_largest_worker": round(max(peaks)),
    }
    show_and_keep(report, None if options.busy else RESULTS / "prepare.json")


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--busy", action="store_true", help="count the processors' seconds, write nothing")
    return parser.parse_args()


def shown_arguments(options: argparse.Namespace) -> list[str]:
    """The command without this machine's paths."""
    return ["--text", "TEXT", "--tokenizer", "DIR", "--workers", str(options.workers), "--rounds", str(options.rounds)]


def write_recipe(files: list[Path], scratch: Path) -> Path:
    source = {"reader": "jsonl", "paths": [str(path.resolve()) for path in files]}
    path = scratch / "recipe.yaml"
    path.write_text(json.dumps({"name": "benchmark", "licence": "none", "sources": [source]}))
    return path


def time_bare_tokenizer(files: list[Path], tokenizer: Path, workers: int) -> tuple[float, float]:
    """From the common start until the last process has encoded its share of the files: clock and processors."""
    shares: list[list[Path]] = [[] for _ in range(workers)]
    for path in files:  # the largest first, each to the process that has least
        min(shares, key=lambda share: sum(one.stat().st_size for one in share)).append(path)
    context = multiprocessing.get_context("spawn")
    ready, spent = context.Barrier(workers + 1), context.SimpleQueue()
    processes = [context.Process(target=encode_files, args=(share, tokenizer, ready, spent)) for share in shares]
    for process in processes:
        process.start()
    ready.wait()
    started = time.perf_counter()
    processor_seconds = sum(spent.get() for _ in processes)
    seconds = time.perf_counter() - started
    for process in processes:
        process.join()
    return seconds, processor_seconds


def encode_files(files: list[Path], tokenizer: Path, ready: Any, spent: Any) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    from tokenizers import Tokenizer

    from mcontriever.texts.streams import read_lines

    encoder = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    texts = [json.loads(line)["text"] for path in files for _, line in read_lines(str(path))]
    encoder.encode_batch_fast(["a first call"], add_special_tokens=False)
    ready.wait()
    started = time.process_time()
    for start in range(0, len(texts), BATCH):
        for row in encoder.encode_batch_fast(texts[start : start + BATCH], add_special_tokens=False):
            assert row.ids is not None
    spent.put(time.process_time() - started)


def time_prepare(recipe: Path, tokenizer: Path, workers: int, output: Path) -> tuple[float, float, float]:
    """The whole command: seconds by the clock and by the processors, and the peak megabytes of its largest worker."""
    shutil.rmtree(output, ignore_errors=True)
    command = [sys.executable, "-m", "mcontriever", "--quiet", "prepare", str(recipe), "--output", str(output)]
    before, started = children_seconds(), time.perf_counter()
    process = subprocess.Popen([*command, "--tokenizer", str(tokenizer), "--workers", str(workers)])
    peak = 0.0
    while process.poll() is None:
        for child in psutil.Process(process.pid).children():
            peak = max(peak, peak_of(child.pid))
        time.sleep(POLL_SECONDS)
    assert process.returncode == 0
    return time.perf_counter() - started, children_seconds() - before, peak


def children_seconds() -> float:
    """What ended children, and theirs, have taken of the processors."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def peak_of(process: int) -> float:
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except FileNotFoundError:
        return 0.0
    line = next((line for line in status.splitlines() if line.startswith("VmHWM")), "VmHWM: 0 kB")
    return int(line.split()[1]) / 1000


def text_bytes(path: Path) -> int:
    from mcontriever.texts.streams import read_lines

    return sum(len(json.loads(line)["text"].encode()) for _, line in read_lines(str(path)))


if __name__ == "__main__":
    main()
