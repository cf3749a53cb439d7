"""The fourth journey: a folder of questions, documents and judgements becomes scores that a naive nDCG confirms."""

import json
import math
from pathlib import Path

import numpy as np

from mcontriever.encoder import Encoder
from tests.conftest import SENTENCES, RunCli
from tests.evaluation.conftest import QUESTIONS


def naive_ndcg(ranking: list[str], relevant: set[str], depth: int) -> float:
    gains = [1 / math.log2(place + 2) for place, name in enumerate(ranking[:depth]) if name in relevant]
    return sum(gains) / sum(1 / math.log2(place + 2) for place in range(min(depth, len(relevant))))


def test_a_task_becomes_a_table(tmp_path: Path, cli: RunCli, mixed_folder: Path, tiny_encoder_dir: Path) -> None:
    output = tmp_path / "scores"
    done = cli("benchmark", "--model", tiny_encoder_dir, "--tasks", mixed_folder, "--output", output)
    assert done.returncode == 0, done.stderr

    encoder = Encoder.load(tiny_encoder_dir)
    texts = {f"{language}-d{topic}": text for language in SENTENCES for topic, text in enumerate(SENTENCES[language])}
    vectors = encoder.embed_documents(list(texts.values()))
    expected = {}
    for language, questions in QUESTIONS.items():
        scores = encoder.embed_queries(questions) @ vectors.T
        rankings = [[list(texts)[row] for row in np.argsort(-scores_D)] for scores_D in scores]
        relevant = [{f"{code}-d{topic}" for code in SENTENCES} for topic in range(len(questions))]
        values = [naive_ndcg(ranking, wanted, 10) for ranking, wanted in zip(rankings, relevant, strict=True)]
        expected[f"{language}->mixed"] = float(np.mean(values))
    rows = json.loads((output / "scores.json").read_text())
    found = {row["language"]: row["value"] for row in rows if row["metric"] == "ndcg_at_10"}
    assert found.keys() >= expected.keys()
    for language, value in expected.items():
        assert abs(found[language] - value) < 1e-4, language
    assert "nDCG@10" in (output / "scores.md").read_text()
    assert (output / "scores.png").stat().st_size > 1000
