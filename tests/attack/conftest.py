"""Small whole things of every kind that a verb reads, made once: each attack breaks a copy of one."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
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
def whole(tmp_path_factory: pytest.TempPathFactory, tiny_encoder_dir: Path, tiny_tokenizer_dir: Path) -> Iterator[Path]:
    """The folder of all of them, and no file of it is changed in its place, by whatever attacks and verbs do."""
    folder = tmp_path_factory.mktemp("whole")
    _make(folder, tiny_encoder_dir, tiny_tokenizer_dir)
    before = {path: (_inode(path), path.read_bytes()) for path in folder.rglob("*") if path.is_file()}
    yield folder
    for path, (inode, data) in before.items():
        if path.is_file() and _inode(path) == inode:
            assert path.read_bytes() == data, f"{path} was written in its place, and not anew beside it"


def _inode(path: Path) -> int:
    return path.stat().st_ino


def _make(folder: Path, tiny_encoder_dir: Path, tiny_tokenizer_dir: Path) -> None:
    """model/ bag/ tokenizer/ store/ encoded/ words/ tokens/ run/ corpus.jsonl ...

    store/ has the vectors of the bag, which is opened fast; encoded/ those of model/.
    """
    shutil.copytree(tiny_encoder_dir, folder / "model")
    shutil.copytree(tiny_tokenizer_dir, folder / "tokenizer")
    bag = Encoder.from_random({**BAG, "token_weights": True}, load_tokenizer(tiny_tokenizer_dir), similarity="cosine")
    bag.save(folder / "bag")
    compact_weights(folder / "bag", "int4")
    documents = mixed_documents(24)
    for store, model in (("store", "bag"), ("encoded", "model")):
        encoder = Encoder.load(folder / model)
        make_store(folder / store, documents, encoder, model=str(folder / model), shard_documents=12)
    make_store(folder / "words", documents, None, shard_documents=12)
    for store in ("store", "encoded", "words"):
        store_edits.delete(folder / store, ["d3"])
        (folder / f"{store}.jsonl").rename(folder / "corpus.jsonl")
    for kind in ("flat", "bm25"):
        attempt("index", folder / "store", "--kind", kind)
    for store in ("store", "encoded", "words"):
        attempt("search", folder / store, "rain")  # which makes what searches keep beside a store
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


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Callable[[str, str], Path]:
    """A copy of one of them, of which one file is to be broken: the others are links to the same bytes."""

    def make(name: str, file: str) -> Path:
        target = tmp_path / "copy" / name
        target.parent.mkdir(exist_ok=True)
        shutil.copytree(whole / name, target, copy_function=os.link)
        (target / file).unlink()
        shutil.copy2(whole / name / file, target / file)
        return target

    return make
