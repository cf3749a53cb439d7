"""`mcontriever serve` under load beside the same searches in process: requests a second, times, what went wrong.

    python benchmarks/speed/serve.py --documents 100000 --clients 32 --seconds 60

The corpus: passages drawn from the atlas's sentences, embedded by nano; the questions: the atlas's, in six languages.
Each client asks one question after the other over a kept connection and compares each answer with the one that the
same search gives in process. In process the questions are searched one by one, and as many at once as there are
clients. The clients run in a process of their own, on the same cores. It writes results/serve.json; `--busy`, for a
machine that others use too, prints only.
"""

import argparse
import asyncio
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from result_files import RESULTS, machine_facts, show_and_keep

from mcontriever.progress import setup_logging
from mcontriever.retrieval.searcher import Index
from mcontriever.shipped import ATLAS
from mcontriever.texts.documents import read_documents, read_queries

K = 10
SENTENCES_EACH = 3


def main() -> None:
    options = parse_options()
    setup_logging("warning")
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        store = made_store(Path(options.store or scratch), options.documents)
        if options.make_only:
            return
        questions = [query.text for query in read_queries(ATLAS / "evaluation" / "queries.jsonl")]
        index = Index.open(store)
        expected = answers_in_process(index, questions, options.mode)
        in_process = {
            "one by one": searches_a_second(index, questions, 1, options),
            f"{options.clients} at once": searches_a_second(index, questions, options.clients, options),
        }
        served = served_load(store, questions, expected, options)
    shares = {name: round(served["per_second"] / rate, 2) for name, rate in in_process.items()}
    report = {
        "command": f"python benchmarks/speed/serve.py {' '.join(sys.argv[1:])}",
        "documents": options.documents,
        "clients": options.clients,
        "workers": options.workers,
        "mode": options.mode,
        "in_process_per_second": in_process,
        "served": served,
        "served_as_share_of_in_process": shares,
        "machine": machine_facts() | {"load_at_the_end": round(os.getloadavg()[0], 1)},
    }
    show_and_keep(report, None if options.busy else RESULTS / "serve.json")


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--mode", choices=("dense", "hybrid", "bm25"), default="dense")
    parser.add_argument("--scratch", help="where the store goes; it is removed afterwards")
    parser.add_argument("--store", help="a folder that keeps the corpus and its store for the next time")
    parser.add_argument("--make-only", action="store_true", help="with --store: make it, and measure nothing")
    parser.add_argument("--busy", action="store_true")
    return parser.parse_args()


def made_store(scratch: Path, documents: int) -> Path:
    if (scratch / "store" / "manifest.json").is_file():
        return scratch / "store"
    scratch.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    sentences: dict[str, list[str]] = {}
    for half in ("train", "evaluation"):
        for document in read_documents(ATLAS / half / "corpus.jsonl"):
            parts = filter(None, re.split(r"(?<=[.。।؟?!])\s*", document.text))
            sentences.setdefault(document.language, []).extend(parts)
    languages = sorted(sentences)
    with (scratch / "corpus.jsonl").open("wb") as file:
        for number in range(documents):
            language = languages[number % len(languages)]
            text = " ".join(rng.choice(sentences[language], SENTENCES_EACH))
            file.write(orjson.dumps({"id": str(number), "text": text, "language": language}) + b"\n")
    command = [sys.executable, "-m", "mcontriever", "-q", "embed", scratch / "corpus.jsonl", "--model", "nano"]
    subprocess.run([*command, "--output", scratch / "store"], check=True)
    return scratch / "store"


def answers_in_process(index: Index, questions: list[str], mode: Any) -> list[list[str]]:
    """One by one, as a client asks. Equal scores may be in another order when many are searched at once."""
    return [sorted(hit.id for hit in index.search(question, k=K, mode=mode)) for question in questions]


def searches_a_second(index: Index, questions: list[str], at_once: int, options: argparse.Namespace) -> float:
    started, done = time.perf_counter(), 0
    while time.perf_counter() - started < options.seconds / 4:
        first = done % (len(questions) - at_once)
        for _ in index.search_many(questions[first : first + at_once], options=search_options(options.mode)):
            done += 1
    return round(done / (time.perf_counter() - started), 1)


def search_options(mode: Any) -> Any:
    from mcontriever.retrieval.search_options import SearchOptions

    return SearchOptions(k=K, mode=mode)


def served_load(
    store: Path, questions: list[str], expected: list[list[str]], options: argparse.Namespace
) -> dict[str, Any]:
    command = [sys.executable, "-m", "mcontriever", "serve", store, "--port", "0", "--workers", str(options.workers)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        address = next(line for line in server.stderr if "http://" in line)
        port = int(address.split("127.0.0.1:")[1].split()[0])
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as clients:
            found = clients.submit(
                run_clients, port, questions, expected, options.clients, options.seconds, options.mode
            )
            seconds, wrong = found.result()
        server.send_signal(signal.SIGTERM)
        server.stderr.read()
    p50, p99 = (float(np.percentile(seconds, part)) for part in (50, 99))
    return {
        "requests": len(seconds),
        "per_second": round(len(seconds) / options.seconds, 1),
        "wrong_or_lost": wrong,
        "p50_ms": round(1e3 * p50, 1),
        "p99_ms": round(1e3 * p99, 1),
        "p99_over_p50": round(p99 / p50, 2),
    }


def run_clients(
    port: int, questions: list[str], expected: list[list[str]], clients: int, seconds: float, mode: str
) -> tuple[list[float], int]:
    async def all_clients() -> list[tuple[list[float], int]]:
        end = time.perf_counter() + seconds
        starts = range(0, len(questions) * clients, len(questions))
        return await asyncio.gather(
            *(one_client(port, questions, expected, start // clients, end, mode) for start in starts)
        )

    found = asyncio.run(all_clients())
    return [one for times, _ in found for one in times], sum(wrong for _, wrong in found)


async def one_client(
    port: int, questions: list[str], expected: list[list[str]], number: int, end: float, mode: str
) -> tuple[list[float], int]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    times, wrong = [], 0
    while time.perf_counter() < end:
        number = (number + 1) % len(questions)
        body = orjson.dumps({"query": questions[number], "k": K, "mode": mode})
        started = time.perf_counter()
        writer.write(
            b"POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        head = await reader.readuntil(b"\r\n\r\n")
        answer = await reader.readexactly(int(re.search(rb"(?i)content-length: (\d+)", head)[1]))
        times.append(time.perf_counter() - started)
        found = sorted(hit["id"] for hit in orjson.loads(answer).get("hits", []))
        wrong += not head.startswith(b"HTTP/1.1 200") or not is_right(found, expected[number])
    writer.close()
    return times, wrong


def is_right(found: list[str], expected: list[str]) -> bool:
    """The same ten, but for one whose score equals another's."""
    return len(found) == len(expected) and len(set(found) & set(expected)) >= len(expected) - 1


if __name__ == "__main__":
    main()
