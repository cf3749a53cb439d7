"""Does memory grow with the corpus? 50,000 and 500,000 short documents, embedded with nano and searched.

    python benchmarks/reliability/memory.py [--documents 50000 500000]

Each command runs by itself, as one process. Its anonymous memory (all but mapped files, which the system takes back at
will) is read a hundred times a second, and the most is kept. Documents are of invented words, in one and in three
languages; with three, searches are calibrated and count words.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "memory.json"
SAMPLE_SECONDS = 0.01
QUERIES = 200
MEGABYTE = 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, nargs="+", default=[50_000, 500_000])
    parser.add_argument("--model", default="nano")
    parser.add_argument("--languages", type=int, nargs="+", default=[1, 3])
    given = parser.parse_args()
    found: dict[str, Any] = {}
    for languages in given.languages:
        for documents in given.documents:
            with tempfile.TemporaryDirectory() as folder:
                for name, words in commands(Path(folder), documents, languages, given.model):
                    peak, seconds = peak_of(words)
                    row = found.setdefault(f"{name}, {languages} language(s)", {})
                    row[f"{documents:,} documents: MB"], row[f"{documents:,} documents: s"] = peak, seconds
                    print(
                        f"{name}, {languages} language(s), {documents:,} documents: {peak} MB, {seconds} s", flush=True
                    )
    command = f"python benchmarks/reliability/memory.py --model {given.model}"
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"command": command, "cores": os.cpu_count(), "peaks": found}, indent=2) + "\n")


def commands(folder: Path, documents: int, languages: int, model: str) -> Iterator[tuple[str, list[str]]]:
    """In this order: each works on what the one before left."""
    corpus, queries, store = folder / "corpus.jsonl", folder / "queries.jsonl", str(folder / "store")
    write_texts(corpus, documents, languages)
    write_texts(queries, QUERIES, languages)
    yield "embed", ["embed", str(corpus), "--output", store, "--model", model]
    asked = ["search", store, "--queries", str(queries)]
    yield "first search", asked
    yield "search", asked
    yield "search, one query", ["search", store, "kebo rima"]
    yield "search --mode bm25, which makes its index", [*asked, "--mode", "bm25"]
    yield "search --mode bm25", [*asked, "--mode", "bm25"]
    yield "search --mode hybrid", [*asked, "--mode", "hybrid"]


def write_texts(path: Path, count: int, languages: int) -> None:
    drawn = random.Random(count)
    words = [
        ["".join(drawn.choices("aeioubdklmnprst", k=drawn.randint(3, 8))) for _ in range(5000)]
        for _ in range(languages)
    ]
    with open(path, "w") as file:
        for number in range(count):
            language = number % languages
            text = " ".join(drawn.choices(words[language], k=drawn.randint(8, 20)))
            file.write(json.dumps({"id": f"d{number}", "text": text, "language": ("en", "sw", "id")[language]}) + "\n")


def peak_of(words: Sequence[str]) -> tuple[int, int]:
    """Megabytes at most, and seconds."""
    began, peak = time.monotonic(), 0
    with open(os.devnull, "w") as nowhere, tempfile.TemporaryFile() as printed:
        process = subprocess.Popen([sys.executable, "-m", "mcontriever", *words], stdout=nowhere, stderr=printed)
        while process.poll() is None:
            peak = max(peak, anonymous(process.pid))
            time.sleep(SAMPLE_SECONDS)
        if process.returncode:
            printed.seek(0)
            raise SystemExit(printed.read().decode())
    return round(peak / MEGABYTE), round(time.monotonic() - began)


def anonymous(pid: int) -> int:
    """Bytes."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(("RssAnon:", "RssShmem:")))


if __name__ == "__main__":
    main()
