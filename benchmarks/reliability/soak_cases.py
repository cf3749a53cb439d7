"""The commands that are killed, what each starts from, and what must be the same as in an undisturbed run."""

import hashlib
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from mcontriever.encoder import Encoder
from mcontriever.retrieval.store.embedding_store import EmbeddingStore
from mcontriever.tokenizer import train_tokenizer
from mcontriever.tokens import load_tokenizer
from mcontriever.training.metrics_log import METRICS, read_log

LANGUAGES = ("en", "sw", "id")
TIMED = {"tokens_per_second", "data_wait", "memory_gib"}
ARCHITECTURE = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}


@dataclass(frozen=True)
class Case:
    """`words` is the command, which works on the folder `work`; `start` is what lies there before.

    `state` tells two results apart; where `is_store`, also what a reader finds after a kill: before, or after.
    """

    name: str
    words: Sequence[str]
    state: Callable[[Path], Any]
    start: Path | None = None
    ranks: int = 1
    is_store: bool = False


def make_material(folder: Path, seed: int) -> None:
    """Texts of invented words in three languages, a tokenizer, an encoder, and what mining and training read."""
    drawn = random.Random(seed)
    words = {
        code: ["".join(drawn.choices("aeioubdklmnprst", k=drawn.randint(3, 8))) for _ in range(400)]
        for code in LANGUAGES
    }
    texts = [
        (f"d{number}", code, " ".join(drawn.choices(words[code], k=drawn.randint(20, 60))))
        for number in range(300)
        for code in [drawn.choice(LANGUAGES)]
    ]
    _write_lines(folder / "corpus.jsonl", texts[:200])
    _write_lines(folder / "more.jsonl", texts[200:])
    _write_lines(folder / "other.jsonl", [(name, code, text[::-1]) for name, code, text in texts[:100]])
    (folder / "collection.tsv").write_text("".join(f"{name}\t{text}\n" for name, _, text in texts[:200]))
    (folder / "queries.tsv").write_text("".join(f"q{n}\t{text[:40]}\n" for n, (_, _, text) in enumerate(texts[:100])))
    (folder / "qrels.tsv").write_text("".join(f"q{n}\t0\t{name}\t1\n" for n, (name, _, _) in enumerate(texts[:100])))
    (folder / "ids.jsonl").write_text("".join(json.dumps(name) + "\n" for name, _, _ in texts[:200:4]))
    (folder / "raw").mkdir()
    for shard in range(8):
        _write_lines(folder / "raw" / f"{shard:02}.jsonl", [drawn.choice(texts) for _ in range(60)])
    source = {"reader": "jsonl", "paths": [f"{folder}/raw/*.jsonl"], "languages": list(LANGUAGES)}
    recipe = {"name": "soak", "licence": "none", "sources": [source]}
    (folder / "recipe.yaml").write_text(json.dumps(recipe))
    by_language = {code: [text for _, found, text in texts if found == code] for code in LANGUAGES}
    train_tokenizer(by_language, folder / "tokenizer", vocabulary=300)
    encoder = Encoder.from_random(
        ARCHITECTURE, load_tokenizer(str(folder / "tokenizer")), seed=seed, max_length=64, similarity="cosine"
    )
    encoder.save(folder / "model")


def write_configs(folder: Path, work: Path) -> None:
    """For `train` and `mine`; tokens/ has been made by now."""
    train = {
        "stage": "pretrain",
        "encoder": {
            "architecture": ARCHITECTURE,
            "tokenizer": str(folder / "tokenizer"),
            "similarity": "cosine",
            "max_length": 64,
        },
        "data": {"tokens": str(folder / "tokens"), "window": 48, "view": {"kind": "crops"}},
        "objective": {"kind": "moco", "temperature": 0.1, "queue_size": 64, "momentum": 0.9},
        "run": {"output": str(work), "steps": 12, "log_every": 1, "save_every": 3},
        "deepspeed": {
            "train_batch_size": 8,
            "train_micro_batch_size_per_gpu": 4,
            "gradient_clipping": 1.0,
            "zero_optimization": {"stage": 1},
            "optimizer": {"type": "AdamW", "params": {"lr": 0.0001, "torch_adam": True, "fused": True}},
        },
    }
    mine = {
        "examples": {
            "format": "msmarco",
            **{name: str(folder / f"{name}.tsv") for name in ("collection", "queries", "qrels")},
            "cache": str(folder / "cache"),
        },
        "model": str(folder / "model"),
        "searchers": [{"kind": "dense", "negatives": 3, "last_rank": 20}],
        "output": str(work),
        "queries_per_block": 10,
    }
    (folder / "train.yaml").write_text(yaml.safe_dump(train))
    (folder / "mine.yaml").write_text(yaml.safe_dump(mine))


def cases(folder: Path, work: Path) -> list[Case]:
    """`folder` holds the material, and store/: what embedding makes."""
    model = ("--model", str(folder / "model"))
    store = folder / "store"
    train = ("train", "--config", str(folder / "train.yaml"))
    prepare = ("prepare", str(folder / "recipe.yaml"), "--output", str(work), "--tokenizer", str(folder / "tokenizer"))
    add = ("--output", str(work), *model, "--shard-documents", "10")
    return [
        Case("prepare", (*prepare, "--workers", "2"), files),
        Case("train", train, trained),
        Case("train on two ranks", train, trained, ranks=2),
        Case("embed", ("embed", str(folder / "corpus.jsonl"), *add), rows),
        Case("append", ("embed", str(folder / "more.jsonl"), "--append", *add), rows, store, is_store=True),
        Case("replace", ("embed", str(folder / "other.jsonl"), "--replace", *add), rows, store, is_store=True),
        Case(
            "delete",
            ("delete", str(work), "--ids-from", str(folder / "ids.jsonl"), "--missing-ok"),
            rows,
            store,
            is_store=True,
        ),
        Case("compact", ("delete", str(work), "--compact"), rows, folder / "thinned", is_store=True),
        Case("index", ("index", str(work), "--kind", "hnsw"), with_index, store),
        Case("mine", ("mine", "--config", str(folder / "mine.yaml")), mined),
    ]


def files(work: Path) -> dict[str, str]:
    found = (path for path in sorted(work.rglob("*")) if path.is_file() and not path.name.startswith(".lock"))
    return {str(path.relative_to(work)): _sha256(path) for path in found}


def trained(work: Path) -> dict[str, Any]:
    log = [{key: value for key, value in line.items() if key not in TIMED} for line in read_log(work / METRICS)]
    return {"weights": _sha256(work / "model" / "model.safetensors"), "log": log}


def rows(work: Path) -> dict[str, tuple[str, str]]:
    """Text and vector of each document that a search may find."""
    store = EmbeddingStore.open(work)
    live = np.arange(len(store)) if store.live_N is None else np.flatnonzero(store.live_N)
    vectors = store.take(live)
    shown = store.rows_shown(live, ["id", "text"])
    return {
        row["id"]: (row["text"], hashlib.sha256(vector.tobytes()).hexdigest())
        for row, vector in zip(shown, vectors, strict=True)
    }


def with_index(work: Path) -> Any:
    """Built by several threads an HNSW graph is not the same twice, so only that it is whole is compared."""
    from mcontriever.retrieval.store import derived

    store = EmbeddingStore.open(work)
    return rows(work), derived.require_fresh(store, "hnsw")["rows_fingerprint"], derived.damage_of(store, "hnsw")


def mined(work: Path) -> dict[str, str]:
    return {path.name: _sha256(path) for path in sorted(work.glob("mined-*.jsonl"))}


def _write_lines(path: Path, texts: Sequence[tuple[str, str, str]]) -> None:
    lines = ({"id": name, "text": text, "language": code} for name, code, text in texts)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
