"""Small whole things of every kind that a verb reads, made once: each attack breaks a copy of one."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mcontriever.encoder import Encoder
from mcontriever.retrieval.store import store_edits
from mcontriever.tokens import load_tokenizer
from mcontriever.training.compact_weights import compact_weights
from tests.attack.attempt import attempt
from tests.conftest import SENTENCES
from tests.retrieval.small_corpora import make_store, mixed_documents

BAG = {"hidden_size": 32, "num_hidden_layers": 0, "num_attention_heads": 1, "intermediate_size": 1}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An attack that wrote beside its place would be seen here."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory, tiny_encoder_dir: Path, tiny_tokenizer_dir: Path) -> Path:
    """The folder of all of them: model/ bag/ tokenizer/ store/ words/ tokens/ run/ corpus.jsonl ..."""
    folder = tmp_path_factory.mktemp("whole")
    shutil.copytree(tiny_encoder_dir, folder / "model")
    shutil.copytree(tiny_tokenizer_dir, folder / "tokenizer")
    bag = Encoder.from_random({**BAG, "token_weights": True}, load_tokenizer(tiny_tokenizer_dir), similarity="cosine")
    bag.save(folder / "bag")
    compact_weights(folder / "bag", "int4")
    documents = mixed_documents(24)
    make_store(
        folder / "store", documents, Encoder.load(folder / "model"), model=str(folder / "model"), shard_documents=12
    )
    make_store(folder / "words", documents, None, shard_documents=12)
    for store in ("store", "words"):
        store_edits.delete(folder / store, ["d3"])
        (folder / f"{store}.jsonl").rename(folder / "corpus.jsonl")
        attempt("search", folder / store, "rain")
    for arguments in (("--kind", "flat"), ("--kind", "bm25")):
        attempt("index", folder / "store", *arguments)
    lines = [json.dumps({"text": text * 3, "language": code}) for code, texts in SENTENCES.items() for text in texts]
    (folder / "raw.jsonl").write_text("\n".join(lines))
    source = {"reader": "jsonl", "paths": [str(folder / "raw.jsonl")], "languages": sorted(SENTENCES)}
    (folder / "recipe.yaml").write_text(json.dumps({"name": "small", "licence": "none", "sources": [source]}))
    made = attempt(
        *("prepare", folder / "recipe.yaml", "--output", folder / "tokens", "--tokenizer", folder / "tokenizer"),
        *("--workers", 1),
    )
    assert made.code == 0, made.explained()
    checkpoint = folder / "run" / "checkpoints" / "step-00000004"
    shutil.copytree(folder / "model", checkpoint / "model")
    (checkpoint / "state.json").write_text(json.dumps({"step": 4, "samples": 32}))
    (folder / "run" / "metrics.jsonl").write_text('{"step": 4, "loss": 2.0, "accuracy": 0.5}\n')
    (folder / "run" / "scores.jsonl").write_text('{"step": 4, "scores": {"mean": {"ndcg@10": 0.5}}}\n')
    return folder


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Callable[[str], Path]:
    """A copy of one of them, to be broken."""

    def make(name: str) -> Path:
        source, target = whole / name, tmp_path / "copy" / name
        target.parent.mkdir(exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copy(source, target)
        return target

    return make
