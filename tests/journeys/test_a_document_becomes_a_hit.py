"""The third journey: a corpus in five languages is embedded, checked, indexed and searched, as numpy would find it."""

import json
from pathlib import Path

import numpy as np

from mcontriever.encoder import Encoder
from mcontriever.texts.documents import Document
from tests.conftest import SENTENCES, RunCli
from tests.retrieval.small_corpora import write_lines

DOCUMENTS = [
    Document(id=f"{language}-{number}", text=text, language=language)
    for language, texts in SENTENCES.items()
    for number, text in enumerate(texts)
]
QUESTION = "يظهر المنظار أقمار الكوكب"


def test_a_document_becomes_a_hit(tmp_path: Path, cli: RunCli, tiny_encoder_dir: Path) -> None:
    corpus, store = write_lines(tmp_path / "corpus.jsonl", DOCUMENTS), tmp_path / "store"
    exactly = ("--dtype", "fp32", "--precision", "float32")
    done = cli("embed", corpus, "--model", tiny_encoder_dir, "--output", store, *exactly)
    assert done.returncode == 0, done.stderr
    for command in (["verify", store], ["index", store, "--kind", "hnsw", "--recall", 1.0]):
        done = cli(*command)
        assert done.returncode == 0, done.stderr

    encoder = Encoder.load(tiny_encoder_dir)
    scores = encoder.embed_documents([document.text for document in DOCUMENTS]) @ encoder.embed_queries([QUESTION])[0]
    nearest = [DOCUMENTS[row].id for row in np.argsort(-scores)[:5]]
    done = cli("search", store, QUESTION, "--merge", "raw", "--json", "-k", 5)
    assert done.returncode == 0, done.stderr
    hits = [json.loads(line) for line in done.stdout.splitlines()]
    assert [hit["id"] for hit in hits] == nearest
    np.testing.assert_allclose([hit["score"] for hit in hits], np.sort(scores)[::-1][:5], rtol=1e-3)

    calibrated = [cli("search", store, QUESTION, "--index", index, "--json", "-k", 5) for index in ("exact", "hnsw")]
    assert [done.returncode for done in calibrated] == [0, 0], calibrated
    exact, approximate = ([json.loads(line)["id"] for line in done.stdout.splitlines()] for done in calibrated)
    assert exact == approximate

    done = cli("search", store, QUESTION, "--mode", "bm25", "--json", "-k", 1)
    assert json.loads(done.stdout)["id"] == "ar-2"
    done = cli("search", store, QUESTION, "--language", "sw", "--json", "-k", 3)
    assert {json.loads(line)["language"] for line in done.stdout.splitlines()} == {"sw"}
