"""Does memory grow with the corpus? 50,000 and 500,000 short documents, embedded with nano and searched.

    python benchmarks/reliability/memory.py             results/memory.json
    python benchmarks/reliability/memory.py --drawn     results/memory-drawn.json: searches alone, soon done

Each command runs by itself, as one process. Its anonymous memory (all but mapped files, which the system takes back at
will) is read a hundred times a second, and the most is kept. Documents are of invented words, in one and in three
languages; with three, searches are calibrated. `--drawn` searches stores of drawn vectors, made without the encoder.
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

import numpy as np

HERE = Path(__file__).parent
LANGUAGES = ("en", "sw", "id")
SAMPLE_SECONDS = 0.01
QUERIES = 200
MEGABYTE = 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, nargs="+", default=[50_000, 500_000])
    parser.add_argument("--model", default="nano")
    parser.add_argument("--languages", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--drawn", action="store_true", help="stores of drawn vectors; no embed")
    given = parser.parse_args()
    command = " ".join(["python", "benchmarks/reliability/memory.py", *sys.argv[1:]])
    path = HERE / "results" / ("memory-drawn.json" if given.drawn else "memory.json")
    peaks: dict[str, dict[str, int]] = {}
    for languages in given.languages:
        for documents in given.documents:
            with tempfile.TemporaryDirectory() as folder:
                for name, words in commands(Path(folder), documents, languages, given):
                    peak = peak_of(words)
                    case, size = f"{name}, {languages} language(s)", f"{documents:,} documents"
                    print(f"{case}, {size}: {peak} MB", flush=True)
                    peaks.setdefault(case, {})[f"{size}: MB"] = peak
                    results = {"command": command, "cores": os.cpu_count(), "peaks": peaks}
                    path.write_text(json.dumps(results, indent=2) + "\n")


def commands(
    folder: Path, documents: int, languages: int, given: argparse.Namespace
) -> Iterator[tuple[str, list[str]]]:
    """In this order: each works on what the one before left."""
    corpus, queries, store = folder / "corpus.jsonl", folder / "queries.jsonl", str(folder / "store")
    write_lines(queries, QUERIES, languages)
    if given.drawn:
        draw_store(Path(store), documents, languages, given.model)
    else:
        write_lines(corpus, documents, languages)
        yield "embed", ["embed", str(corpus), "--output", store, "--model", given.model]
    asked = ["search", store, "--queries", str(queries)]
    yield "first search", asked
    yield "search", asked
    yield "search, one query", ["search", store, "kebo rima"]
    yield "search --mode bm25, which makes its index", [*asked, "--mode", "bm25"]
    yield "search --mode bm25", [*asked, "--mode", "bm25"]
    yield "first search --mode hybrid", [*asked, "--mode", "hybrid"]
    yield "search --mode hybrid", [*asked, "--mode", "hybrid"]


def draw_store(folder: Path, documents: int, languages: int, model: str) -> None:
    sys.path.insert(0, str(HERE.parent / "speed"))
    from drawn_store import embeddings_like, make_store

    from mcontriever.encoder import Encoder
    from mcontriever.retrieval.store.store_encoder import encoder_entry
    from mcontriever.texts.documents import Document

    encoder = Encoder.load(model, light=True)
    draw = embeddings_like(np.random.default_rng(0), encoder.dimension)
    texts = [Document(**record) for record in records(documents, languages)]
    make_store(folder, draw, documents, texts.__getitem__, "fp16", encoder=encoder_entry(model, encoder))


def write_lines(path: Path, count: int, languages: int) -> None:
    with open(path, "w") as file:
        file.writelines(json.dumps(record) + "\n" for record in records(count, languages))


def records(count: int, languages: int) -> Iterator[dict[str, str]]:
    """Texts of invented words, each language with its own."""
    drawn = random.Random(count)
    words = [
        ["".join(drawn.choices("aeioubdklmnprst", k=drawn.randint(3, 8))) for _ in range(5000)]
        for _ in range(languages)
    ]
    for number in range(count):
        language = number % languages
        text = " ".join(drawn.choices(words[language], k=drawn.randint(8, 20)))
        yield {"id": f"d{number}", "text": text, "language": LANGUAGES[language]}


def peak_of(words: Sequence[str]) -> int:
    """Megabytes at most."""
    peak = 0
    with open(os.devnull, "w") as nowhere, tempfile.TemporaryFile() as printed:
        process = subprocess.Popen([sys.executable, "-m", "mcontriever", *words], stdout=nowhere, stderr=printed)
        while process.poll() is None:
            peak = max(peak, anonymous(process.pid))
            time.sleep(SAMPLE_SECONDS)
        if process.returncode:
            printed.seek(0)
            raise SystemExit(printed.read().decode())
    return round(peak / MEGABYTE)


def anonymous(pid: int) -> int:
    """Bytes."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(("RssAnon:", "RssShmem:")))


if __name__ == "__main__":
    main()
