"""The second journey: training on questions, hard negatives mined with the result, and training on them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from mcontriever.encoder import Encoder
from mcontriever.training.metrics_log import METRICS, read_log
from tests.conftest import SENTENCES, RunCli

TEXTS = [text for group in SENTENCES.values() for text in group]


def write_yaml(path: Path, values: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(values))
    return path


def training(name: str, examples: Path, output: Path, **data: Any) -> dict[str, Any]:
    return {
        "stage": "finetune",
        "encoder": {"name": name},
        "data": {
            "examples": {"format": "columns", "paths": [str(examples)]},
            **data,
            "query_length": 24,
            "passage_length": 32,
        },
        "objective": {"kind": "contrastive", "temperature": 0.05},
        "run": {"output": str(output), "steps": 4, "log_every": 1, "save_every": 10},
        "deepspeed": {
            "train_micro_batch_size_per_gpu": 5,
            "optimizer": {"type": "AdamW", "params": {"lr": 1e-3, "torch_adam": True}},
        },
    }


@pytest.mark.filterwarnings("ignore:`torch.*` is deprecated")
def test_a_question_becomes_a_gradient(tmp_path: Path, cli: RunCli, tiny_encoder_dir: Path) -> None:
    examples = tmp_path / "examples.jsonl"
    pairs = [{"query": text[: len(text) // 2], "positive": text} for text in TEXTS]
    examples.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))

    first = training(str(tiny_encoder_dir), examples, tmp_path / "first", negatives=0)
    done = cli("train", "--config", write_yaml(tmp_path / "first.yaml", first))
    assert done.returncode == 0, done.stderr
    mining = {
        "examples": {"format": "columns", "paths": [str(examples)]},
        "model": str(tmp_path / "first" / "model"),
        "merge": "raw",
        "searchers": [{"kind": "dense", "negatives": 2, "last_rank": 8, "choose": "top"}],
        "output": str(tmp_path / "mined"),
    }
    done = cli("mine", "--config", write_yaml(tmp_path / "mine.yaml", mining))
    assert done.returncode == 0, done.stderr

    encoder = Encoder.load(tmp_path / "first" / "model")
    scores_QP = encoder.embed_queries([pair["query"] for pair in pairs]) @ encoder.embed_documents(TEXTS).T
    np.fill_diagonal(scores_QP, -np.inf)
    parts = [path.read_text(encoding="utf-8") for path in sorted((tmp_path / "mined").glob("mined-*.jsonl"))]
    mined = [json.loads(line) for part in parts for line in part.split("\n") if line]
    assert len(mined) == len(TEXTS)
    for record, scores_P in zip(mined, scores_QP, strict=True):
        found = [TEXTS.index(negative["text"]) for negative in record["hard_negative_ctxs"]]
        assert len(set(found)) == 2
        # where 8-bit products are native, mining compares scores that are right to two thousandths
        np.testing.assert_allclose(scores_P[found], np.sort(scores_P)[::-1][:2], rtol=5e-3)

    second = training(str(tmp_path / "first" / "model"), tmp_path / "mined", tmp_path / "second")
    second["data"] |= {
        "examples": {"format": "dpr", "paths": [str(tmp_path / "mined" / "mined-*.jsonl")]},
        "hard_ratio": 1.0,
    }
    done = cli("train", "--config", write_yaml(tmp_path / "second.yaml", second))
    assert done.returncode == 0, done.stderr
    log = read_log(tmp_path / "second" / METRICS)
    assert [line["step"] for line in log] == [1, 2, 3, 4]
    assert all(line["gradient_norm"] > 0 and line["hard_share"] == 1 for line in log)
