"""Mining with a cross-encoder: it rejects what answers too, keeps its scores, and labels queries without answers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pydantic
import pytest

from mcontriever import mine
from mcontriever.encoder import Encoder
from mcontriever.errors import ConfigError
from mcontriever.finetuning.examples.training_set import open_training_set
from mcontriever.retrieval.rerank import Reranker
from tests.retrieval.test_rerank import save_cross_encoder
from tests.sentences_to_mine import COPY, TEXTS, Config, config_maker, folded, records, write_files


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    return write_files(tmp_path)


@pytest.fixture
def config(files: dict[str, Path], tiny_encoder_dir: Path, tmp_path: Path) -> Config:
    return config_maker(files, tiny_encoder_dir, tmp_path / "mined")


def test_a_cross_encoder_objects_and_its_scores_are_kept(
    config: Config, tmp_path: Path, tiny_tokenizer_dir: Path
) -> None:
    name = str(save_cross_encoder(tmp_path / "cross", tiny_tokenizer_dir))
    reranker = Reranker.load(name)
    pairs = [(query[:20], text) for query in TEXTS for text in TEXTS]
    logits = np.array(reranker.logits(pairs))
    np.testing.assert_allclose(1 / (1 + np.exp(-logits)), reranker.scores(pairs), atol=1e-5)
    limit = float(1 / (1 + np.exp(-np.median(logits))))
    searchers = [{"kind": "dense", "negatives": 4, "last_rank": 21, "choose": "top"}]
    made = config(searchers=searchers, cross_encoder={"name": name, "max_probability": limit, "examined": 3})
    mine.run(made)
    for record in records(made.output):
        passages = [*record["positive_ctxs"], *record["hard_negative_ctxs"]]
        scores = np.array(reranker.logits([(record["question"], passage["text"]) for passage in passages]))
        assert [passage["teacher_score"] for passage in passages] == pytest.approx(scores, abs=1e-4)
        assert (1 / (1 + np.exp(-scores[1:])) <= limit + 1e-6).all()
    manifest = json.loads((Path(made.output) / "manifest.json").read_text())
    assert manifest["passed_over"]["a positive to the cross-encoder"] > 0
    examples = open_training_set(format="dpr", paths=[f"{made.output}/mined-*.jsonl"])
    assert examples.has_scores
    assert examples[0].positive_scores[0] == pytest.approx(records(made.output)[0]["positive_ctxs"][0]["teacher_score"])


def test_queries_without_a_label_get_positives_that_a_cross_encoder_is_sure_of(
    config: Config, files: dict[str, Path], tmp_path: Path, tiny_tokenizer_dir: Path, tiny_encoder_dir: Path
) -> None:
    """Against a loop over each query's nearest passages and the two thresholds."""
    name = str(save_cross_encoder(tmp_path / "cross", tiny_tokenizer_dir))
    passages = [*TEXTS, COPY]
    scores = np.array(Reranker.load(name).scores([(text[:20], passage) for text in TEXTS for passage in passages]))
    scores_QP = scores.reshape(len(TEXTS), -1)
    low, high = np.quantile(scores_QP, [0.4, 0.9])
    files["qrels"].write_text("".join(f"q{number}\t0\tp{number}\t1\n" for number in range(12)))
    examples = {"format": "msmarco", **{kind: str(path) for kind, path in files.items()}, "unlabelled": True}
    searchers = [{"kind": "dense", "negatives": 4, "last_rank": 8, "choose": "top"}]
    opinion = {"name": name, "max_probability": float(low), "min_positive_probability": float(high), "examined": 2}
    made = config(examples=examples, merge="raw", searchers=searchers, cross_encoder=opinion)
    mine.run(made)
    encoder, expected = Encoder.load(tiny_encoder_dir), {}
    dense_QP = encoder.embed_queries([text[:20] for text in TEXTS]) @ encoder.embed_documents(passages).T
    for number in range(12, len(TEXTS)):
        texts: list[str] = []
        for place in np.argsort(-dense_QP[number], kind="stable")[:8]:
            if folded(passages[place]) not in [folded(text) for text in texts]:
                texts.append(passages[place])
        of = {text: scores_QP[number, passages.index(text)] for text in texts}
        sure = {text for text, score in of.items() if score >= high}
        if sure:
            expected[f"q{number}"] = (sure, [text for text, score in of.items() if score <= low][:4])
    found = {
        record["id"]: (
            {one["text"] for one in record["positive_ctxs"]},
            [one["text"] for one in record["hard_negative_ctxs"]],
        )
        for record in records(made.output)
    }
    assert 0 < len(expected) < 8
    assert found == expected
    total = json.loads((Path(made.output) / "manifest.json").read_text())
    assert total["unanswered"] == 8 - len(expected)
    trained_on = open_training_set(format="dpr", paths=[f"{made.output}/mined-*.jsonl"])
    assert len(trained_on) == len(expected)
    assert np.isfinite(trained_on.positive_scores.values_T).all()


@pytest.mark.parametrize(
    ("examples", "opinion", "expected"),
    [
        ({"unlabelled": True}, {}, "go together"),
        ({}, {"min_positive_probability": 0.9}, "go together"),
        ({"unlabelled": True, "format": "beir"}, {"min_positive_probability": 0.9}, "read in the format msmarco"),
    ],
)
def test_unlabelled_queries_need_a_threshold_and_their_format(
    config: Config, files: dict[str, Path], examples: dict[str, Any], opinion: dict[str, Any], expected: str
) -> None:
    of_files = {"format": "msmarco", **{kind: str(path) for kind, path in files.items()}}
    with pytest.raises((pydantic.ValidationError, ConfigError), match=expected):
        mine.run(config(examples={**of_files, **examples}, cross_encoder={"name": "none", **opinion}))
