"""Twenty sentences to mine in: MS MARCO's three files, a configuration that mines them, and what was mined."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from mcontriever.config import MineConfig
from tests.conftest import SENTENCES

TEXTS = [text for group in SENTENCES.values() for text in group]
COPY = f"  {TEXTS[0].upper()}"  # the text of passage 0 once more, under another id
Config = Callable[..., MineConfig]


def write_files(folder: Path) -> dict[str, Path]:
    """Sentence i is passage p<i>; a query is the beginning of a sentence, its positive the sentence."""
    collection, queries, qrels = (folder / name for name in ("collection.tsv", "queries.tsv", "qrels.tsv"))
    passages = {f"p{number}": text for number, text in enumerate(TEXTS)} | {"copy": COPY}
    collection.write_text("".join(f"{identifier}\t{text}\n" for identifier, text in passages.items()))
    queries.write_text("".join(f"q{number}\t{text[:20]}\n" for number, text in enumerate(TEXTS)))
    qrels.write_text("".join(f"q{number}\t0\tp{number}\t1\n" for number in range(len(TEXTS))))
    return {"collection": collection, "queries": queries, "qrels": qrels}


def config_maker(files: dict[str, Path], model: Path, output: Path) -> Config:
    def make(**changes: Any) -> MineConfig:
        values = {
            "examples": {"format": "msmarco", **{name: str(path) for name, path in files.items()}},
            "model": str(model),
            "searchers": [{"kind": "dense", "negatives": 3, "last_rank": 8, "choose": "top"}],
            "output": str(output),
            "queries_per_block": 6,
            **changes,
        }
        return MineConfig.model_validate(values)

    return make


def write_smallest_mining(folder: Path, **values: Any) -> Path:
    """mine.yaml, to mine for one query among two passages."""
    texts = {
        "collection": "d1\train on the hills\nd2\ta warm room\n",
        "queries": "q1\train\n",
        "qrels": "q1\t0\td1\t1\n",
    }
    for name, text in texts.items():
        (folder / f"{name}.tsv").write_text(text)
    examples = {"format": "msmarco", "cache": str(folder / "cache")}
    values["examples"] = examples | {name: str(folder / f"{name}.tsv") for name in texts}
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def records(output: str | Path) -> list[dict[str, Any]]:
    texts = [path.read_text() for path in sorted(Path(output).glob("mined-*.jsonl"))]
    return [json.loads(line) for text in texts for line in text.splitlines()]


def folded(text: str) -> str:
    return " ".join(text.split()).casefold()
