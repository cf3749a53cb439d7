"""Two encoders in one folder: ours, sentence-transformers, a store's search and MTEB compare the same vectors."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformer

from mcontriever.encoder import Encoder
from mcontriever.encoder.two_encoders import TwoEncoders
from mcontriever.evaluation.models import encoder_search
from mcontriever.texts.documents import Document
from tests.conftest import SENTENCES, RunCli
from tests.evaluation.test_mteb_encoder import CONTEXT
from tests.retrieval.small_corpora import write_lines

TEXTS = [text for texts in SENTENCES.values() for text in texts]
ASKED = [text[: len(text) // 2] for text in TEXTS[:6]]


@pytest.fixture(scope="module")
def both(tiny_encoder_dir: Path) -> TwoEncoders:
    """Weights of two seeds, embeddings of length one, and a prefix of each side."""
    sides = [
        Encoder.load(tiny_encoder_dir, similarity="cosine", normalize=True, query_prefix="q: ", document_prefix="p: ")
        for _ in range(2)
    ]
    torch.manual_seed(4)
    with torch.no_grad():
        for parameter in sides[0].parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return TwoEncoders(*sides).eval()


@pytest.fixture(scope="module")
def folder(both: TwoEncoders, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return both.save(tmp_path_factory.mktemp("two") / "model")


@pytest.fixture(scope="module")
def scores(both: TwoEncoders) -> np.ndarray:
    """From the two encoders, each used alone."""
    passages = Encoder(both.backbone, both.tokenizer, **both.spec()).eval()
    return both.queries.embed_queries(ASKED) @ passages.embed_documents(TEXTS).T


def test_it_opens_again_as_the_same_two(both: TwoEncoders, folder: Path, scores: np.ndarray) -> None:
    loaded = Encoder.load(folder)
    assert isinstance(loaded, TwoEncoders)
    assert loaded.fingerprint() == both.fingerprint()
    assert loaded.fingerprint() != TwoEncoders(both.queries, both.queries).fingerprint()
    np.testing.assert_allclose(loaded.embed_queries(ASKED) @ loaded.embed_documents(TEXTS).T, scores, atol=1e-6)
    assert np.abs(loaded.embed_documents(ASKED) - loaded.embed_queries(ASKED)).max() > 0.01
    both.save(folder, overwrite=True)


def test_sentence_transformers_routes_queries_and_documents(folder: Path, scores: np.ndarray) -> None:
    model = SentenceTransformer(str(folder), device="cpu")
    found = model.similarity(model.encode_query(ASKED), model.encode_document(TEXTS))
    np.testing.assert_allclose(found.numpy(), scores, atol=1e-5)


@pytest.mark.filterwarnings("ignore")  # MTEB speaks of its own future
def test_mteb_scores_with_both(folder: Path, scores: np.ndarray) -> None:
    search = encoder_search(str(folder), "two", "cpu")
    search.index(Dataset.from_dict({"id": [f"d{n}" for n in range(len(TEXTS))], "text": TEXTS}), **CONTEXT)
    asked = Dataset.from_dict({"id": [str(n) for n in range(len(ASKED))], "text": ASKED})
    hits = search.search(asked, top_k=len(TEXTS), **CONTEXT)
    found = [[hits[query][f"d{n}"] for n in range(len(TEXTS))] for query in asked["id"]]
    np.testing.assert_allclose(np.array(found), scores, atol=1e-2)  # in bfloat16 where that is fast
    one = sum(parameter.numel() for parameter in search.encoder.encoder.queries.parameters())
    assert search.mteb_model_meta.n_parameters == 2 * one


def test_a_store_is_searched_with_the_queries_encoder(
    folder: Path, scores: np.ndarray, tmp_path: Path, cli: RunCli
) -> None:
    corpus = write_lines(tmp_path / "corpus.jsonl", [Document(str(n), text) for n, text in enumerate(TEXTS)])
    done = cli("embed", corpus, "--model", folder, "--output", tmp_path / "store", "--dtype", "fp32")
    assert done.returncode == 0, done.stderr
    done = cli("search", tmp_path / "store", ASKED[1], "--merge", "raw", "--json", "-k", 3)
    assert done.returncode == 0, done.stderr
    hits = [json.loads(line) for line in done.stdout.splitlines()]
    assert [int(hit["id"]) for hit in hits] == np.argsort(-scores[1])[:3].tolist()


def test_only_one_encoder_is_trimmed(folder: Path, tmp_path: Path, cli: RunCli) -> None:
    done = cli("trim", folder, "--output", tmp_path / "small", "--layers", "0")
    assert done.returncode == 2
    assert "has a separate query encoder" in done.stderr
    assert "export dpr:QUERIES,PASSAGES" in done.stderr


def test_both_are_stored_in_fewer_bytes(folder: Path, tmp_path: Path, cli: RunCli, scores: np.ndarray) -> None:
    done = cli("export", folder, "--output", tmp_path / "half", "--weights", "float16")
    assert done.returncode == 0, done.stderr
    for part in ("model.safetensors", "query/model.safetensors"):
        assert (tmp_path / "half" / part).stat().st_size < 0.6 * (folder / part).stat().st_size
    loaded = Encoder.load(tmp_path / "half")
    np.testing.assert_allclose(loaded.embed_queries(ASKED) @ loaded.embed_documents(TEXTS).T, scores, atol=5e-3)
