"""The first journey: CCNet lines are prepared, trained on, exported, and give equal answers in two libraries.

Every step is a command that a user types, except that the training is in this process.
"""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from mcontriever import train
from mcontriever.assembly.training_config import load_train_config
from mcontriever.encoder import Encoder
from mcontriever.training.metrics_log import METRICS, read_log
from tests.conftest import RunCli
from tests.training.tiny_runs import tiny_values


def write_ccnet(folder: Path, sentences: dict[str, list[str]]) -> None:
    """Shards as cc_net names and fills them; every tenth line is of another language, and must be dropped."""
    folder.mkdir()
    for language, texts in sentences.items():
        with gzip.open(folder / f"{language}_head_0000.json.gz", "wt", encoding="utf-8") as file:
            for number in range(20):
                text = " ".join(texts[(number + step) % len(texts)] for step in range(3))
                record = {
                    "url": f"http://example.org/{language}/{number}",
                    "date_download": "2019-02-18T01:57:05Z",
                    "digest": f"sha1:{language}{number}",
                    "length": len(text),
                    "nlines": 1,
                    "source_domain": "example.org",
                    "title": f"{language} {number}",
                    "raw_content": f"{text} {number}",
                    "language": language if number % 10 else "xx",
                    "language_score": 0.9,
                    "perplexity": 200.0,
                    "bucket": "head",
                }
                file.write(json.dumps(record, ensure_ascii=False) + "\n")


@pytest.mark.filterwarnings("ignore:`torch.*` is deprecated")
def test_a_ccnet_line_becomes_a_gradient(
    tmp_path: Path, cli: RunCli, sentences: dict[str, list[str]], tiny_tokenizer_dir: Path
) -> None:
    from sentence_transformers import SentenceTransformer

    write_ccnet(tmp_path / "ccnet", sentences)
    source = {
        "reader": "ccnet",
        "paths": [str(tmp_path / "ccnet" / "{language}_{bucket}_*.json.gz")],
        "languages": list(sentences),
        "buckets": ["head"],
    }
    recipe = {"name": "tiny-ccnet", "licence": "none", "sources": [source]}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    prepared = cli(
        *("prepare", tmp_path / "recipe.yaml", "--output", tmp_path / "tokens"),
        *("--tokenizer", tiny_tokenizer_dir, "--workers", 1),
    )
    assert prepared.returncode == 0, prepared.stderr
    report = json.loads((tmp_path / "tokens" / "report.json").read_text())["languages"]
    assert {language: counts["kept"] for language, counts in report.items()} == dict.fromkeys(sentences, 18)

    values = tiny_values(tmp_path / "run", tmp_path / "tokens", tiny_tokenizer_dir)
    values["run"] |= {"steps": 10, "log_every": 1}
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(values))
    train.run(load_train_config(tmp_path / "train.yaml"))
    lines = read_log(tmp_path / "run" / METRICS)
    assert [line["step"] for line in lines] == list(range(1, 11))
    assert all(line["gradient_norm"] > 0 for line in lines)
    seen = {language for line in lines for language, share in line["languages"].items() if share}
    assert seen == set(sentences)

    exported = cli("export", tmp_path / "run", "--output", tmp_path / "model")
    assert exported.returncode == 0, exported.stderr
    texts = [text for language in sentences.values() for text in language]
    ours = Encoder.load(tmp_path / "model").embed_documents(texts)
    theirs = SentenceTransformer(str(tmp_path / "model"), device="cpu").encode(texts)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
