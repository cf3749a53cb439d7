"""Stores, token folders, checkpoints, models and configurations that version 0.1.0 wrote still open and mean the same.

0.1.0.tar.xz was made by that version's own commands: a tokenizer of 700 pieces and token shards of 32 documents; a run
of tiny.yaml stopped at step 4 of 6, and the log of the same run without a stop; its exported model, and a weighted bag
of subwords in float32 and int4; stores of both; and what it answered (hits-*.jsonl, *-queries.npy).
"""

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from mcontriever.encoder import Encoder
from tests.conftest import RunCli

ARCHIVE = Path(__file__).with_name("0.1.0.tar.xz")
QUERIES = ["What is a telescope for?", "ما هو المنظار؟"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("version-0.1.0")
    with tarfile.open(ARCHIVE) as archive:
        if hasattr(tarfile, "data_filter"):  # Python 3.11.4 and later
            archive.extractall(folder, filter="data")
        else:
            archive.extractall(folder)
    for manifest in folder.glob("store*/manifest.json"):  # stores name their model by its absolute path
        manifest.write_text(manifest.read_text().replace("@FOLDER@", str(folder)))
    return folder


@pytest.mark.parametrize(("model", "tolerance"), [("model", 1e-5), ("bag", 1e-6)])
def test_models_give_the_same_vectors(folder: Path, model: str, tolerance: float) -> None:
    expected = np.load(folder / f"{model}-queries.npy")
    np.testing.assert_allclose(Encoder.load(folder / model).embed_queries(QUERIES), expected, atol=tolerance)


def test_a_model_in_four_bits_is_near_the_exact_one(folder: Path) -> None:
    rounded = Encoder.load(folder / "bag-int4").embed_queries(QUERIES)
    exact = np.load(folder / "bag-queries.npy")
    cosines = (rounded * exact).sum(1) / np.linalg.norm(rounded, axis=1) / np.linalg.norm(exact, axis=1)
    assert (cosines > 0.98).all()


@pytest.mark.parametrize("mode", ["dense", "bm25", "hybrid"])
def test_a_store_gives_the_same_hits(folder: Path, cli: RunCli, mode: str) -> None:
    """By that version's scores; a store of several languages is searched by calibrated ones if nothing is asked."""
    expected = [json.loads(line) for line in (folder / f"hits-{mode}.jsonl").read_text().splitlines()]
    done = cli(
        "search", folder / "store", "the water of the river", "--mode", mode, "--json", "-k", 5, "--merge", "raw"
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [hit["id"] for hit in found] == [hit["id"] for hit in expected]
    np.testing.assert_allclose([hit["score"] for hit in found], [hit["score"] for hit in expected], atol=1e-3)


def test_stores_pass_verification(folder: Path, cli: RunCli) -> None:
    for store in ("store", "store-transformer"):
        done = cli("verify", folder / store)
        assert done.returncode == 0, done.stderr


def test_token_shards_are_found_to_be_done(folder: Path, cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    before = {path: path.stat().st_mtime_ns for path in (folder / "tokens" / "shards").rglob("*.npy")}
    done = cli("prepare", "recipe.yaml", "--output", "tokens", "--tokenizer", "tokenizer", "--workers", 1)
    assert done.returncode == 0, done.stderr
    assert before == {path: path.stat().st_mtime_ns for path in (folder / "tokens" / "shards").rglob("*.npy")}


def test_a_run_resumes_from_its_checkpoint(folder: Path, run_cli: RunCli) -> None:
    """Losses are those of that version's run without a stop, as near as another processor computes them."""
    done = run_cli("train", "--config", "tiny.yaml", cwd=folder, MASTER_PORT="29583")
    assert done.returncode == 0, done.stderr
    expected = [json.loads(line) for line in (folder / "all-steps.jsonl").read_text().splitlines()]
    found = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in found] == [line["step"] for line in expected]
    np.testing.assert_allclose([line["loss"] for line in found], [line["loss"] for line in expected], rtol=1e-3)
