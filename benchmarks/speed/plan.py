"""The sums of a large corpus: hours, machines and disk, from the rates in results/.

    python benchmarks/speed/serve.py --store FOLDER --make-only        100,000 passages and their store
    python benchmarks/speed/plan.py --measure FOLDER                   what one command reads; writes results/plan.json
    python benchmarks/speed/plan.py --passages 1e9 --characters 600 --machines 10 --cores 64

Rates are those of one or two cores and are taken to grow with the number of cores, one task for every two; nothing
larger has been measured. With Ray one command reads the corpus, twice, the second time while the machines embed. What
`--measure` writes is in processor seconds, so that other work on the machine does not count.
"""

import argparse
import itertools
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from result_files import RESULTS, machine_facts, show_and_keep

from mcontriever.disk import folder_bytes
from mcontriever.progress import setup_logging
from mcontriever.retrieval.embedding.corpus import Corpus
from mcontriever.retrieval.embedding.survey import survey
from mcontriever.retrieval.store.embedding_store import EmbeddingStore
from mcontriever.retrieval.vector_search.milvus import MilvusIndex

HOUR = 3600.0
MILVUS_ROWS = 3_000
EMBEDDERS = {
    "small, bf16": ("embed-small-cpu.json", "mcontriever bfloat16"),
    "small, AVX2": ("avx2/embed-small-cpu.json", "mcontriever float32"),
    "base, bf16": ("embed-base-cpu.json", "mcontriever bfloat16"),
    "base, int8": ("embed-base-cpu.json", "mcontriever int8"),
    "base, AVX2": ("avx2/embed-base-cpu.json", "mcontriever float32"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--passages", type=float, default=1e9)
    parser.add_argument("--characters", type=int, default=600, help="of a passage")
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--machines", type=int, default=10)
    parser.add_argument("--cores", type=int, default=64, help="of a machine")
    parser.add_argument("--measure", type=Path, help="a folder that serve.py --store made")
    options = parser.parse_args()
    if options.measure:
        setup_logging("warning")
        report = {"command": "python benchmarks/speed/plan.py --measure FOLDER", **measured(options.measure)}
        show_and_keep(report, RESULTS / "plan.json")
        return
    print(f"{options.passages:,.0f} passages of {options.characters} characters, {options.dimension} dimensions")
    print("| what | amount | from |\n| --- | --- | --- |")
    for what, amount, source in lines(options):
        print(f"| {what} | {amount} | {f'`benchmarks/speed/results/{source}`' if source else 'arithmetic'} |")


def measured(folder: Path) -> dict[str, Any]:
    corpus, store = Corpus.open(folder / "corpus.jsonl"), EmbeddingStore.open(folder / "store")
    started = time.process_time()
    found = survey(corpus)
    surveyed = time.process_time()
    ends = [0, *found.shard_ends]
    for _ in corpus.ranges(list(itertools.pairwise(ends))):
        pass
    read = time.process_time()
    parquet = sum(path.stat().st_size for path in (folder / "store").glob("documents-*.parquet"))
    return {
        "documents": found.documents,
        "characters_each": round(found.characters / found.documents),
        "surveyed_per_second": round(found.documents / (surveyed - started)),
        "read_per_second": round(found.documents / (read - surveyed)),
        "stored_text_bytes_per_character": round(parquet / found.characters, 2),
        **filled_milvus_lite(store),
        "machine": machine_facts("milvus-lite"),
    }


def filled_milvus_lite(store: EmbeddingStore) -> dict[str, Any]:
    """The first rows of the store, with their words."""
    shards, rows = [], 0
    for shard in store.manifest.shards:
        if rows < MILVUS_ROWS:
            shards.append(shard)
            rows += shard.rows
    scratch = Path(tempfile.mkdtemp())
    part = EmbeddingStore(store.folder, store.manifest.model_copy(update={"shards": shards, "deleted": None}))
    started = time.process_time()
    MilvusIndex.sync(part, part, str(scratch / "lite.db"), centred=False)
    seconds = time.process_time() - started
    size = folder_bytes(scratch)
    shutil.rmtree(scratch)
    return {
        "milvus_lite_rows": rows,
        "milvus_lite_rows_per_second": round(rows / seconds),
        "milvus_lite_bytes_per_row": round(size / rows),
        "milvus_lite_dimension": store.dimension,
    }


def lines(options: argparse.Namespace) -> Iterator[tuple[str, str, str]]:
    passages, cores, dimension = options.passages, options.machines * options.cores, options.dimension
    prepared, here, search = read("prepare.json"), read("plan.json"), read("search-vectors.json")["contenders"]
    per_core = prepared["text_megabytes"] * 1e6 / min(prepared["prepare_seconds"]) / prepared["machine"]["cores"]
    yield "prepare", hours(passages * options.characters / per_core, cores), "prepare.json"
    for name, (file, contender) in EMBEDDERS.items():
        found = read(file)
        rate = next(one["documents_per_second"] for one in found["results"] if one["name"] == contender)
        yield f"embed, {name}", hours(passages / rate * found["machine"]["threads"], cores), file
    for name in ("surveyed", "read"):
        took = passages * options.characters / here["characters_each"] / here[f"{name}_per_second"] / HOUR
        yield f"the corpus {name} by one command", f"{took:,.1f} hours", "plan.json"
    for dtype, size in (("fp16", 2), ("int8", 1)):
        yield f"vectors on disk, {dtype}", terabytes(passages * dimension * size), ""
    text = passages * options.characters * here["stored_text_bytes_per_character"]
    yield "texts on disk", terabytes(text), "plan.json"
    yield "vectors in Milvus, fp32", terabytes(passages * dimension * 4), ""
    for kind in ("hnsw", "ivf-sq", "ivf-pq"):
        yield f"memory of {kind}", terabytes(passages * search[kind]["bytes_per_vector"]), "search-vectors.json"
    took = passages / here["milvus_lite_rows_per_second"] / HOUR
    yield "filling Milvus from one command, at Milvus Lite's rate", f"{took:,.0f} hours", "plan.json"


def hours(core_seconds: float, cores: int) -> str:
    return f"{core_seconds / HOUR:,.0f} core hours: {core_seconds / HOUR / cores:,.1f} hours on {cores} cores"


def terabytes(size: float) -> str:
    return f"{size / 1e12:,.2f} TB"


def read(name: str) -> Any:
    return json.loads((RESULTS / name).read_text())


if __name__ == "__main__":
    main()
