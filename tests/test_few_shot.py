"""The few-shot preset on a few questions, end to end."""

import json
from pathlib import Path

import numpy as np
import pytest

from mcontriever import train
from mcontriever.assembly.training_config import load_train_config
from mcontriever.training.metrics_log import SCORES, read_log
from tests.conftest import REPOSITORY, SENTENCES

# DeepSpeed's own calls into torch
pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.distributed.*` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:`torch.jit.*` is deprecated:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def mixed_beir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Halves of the twenty sentences ask for them: twelve questions to train on, eight to stop by."""
    folder = tmp_path_factory.mktemp("few") / "beir"
    (folder / "qrels").mkdir(parents=True)
    texts = [text for group in SENTENCES.values() for text in group]
    for name, lines in (("corpus", texts), ("queries", [text[: len(text) // 2] for text in texts])):
        records = [json.dumps({"_id": str(number), "text": text}) for number, text in enumerate(lines)]
        (folder / f"{name}.jsonl").write_text("\n".join(records))
    for split, numbers in (("train", range(12)), ("dev", range(12, 20))):
        rows = [f"{number}\t{number}\t1" for number in numbers]
        (folder / "qrels" / f"{split}.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *rows]) + "\n")
    return folder


def test_few_shot_runs_to_its_early_end(
    tmp_path: Path, mixed_beir: Path, tiny_encoder_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The preset itself, on eight questions: it ends where the dev set stopped getting better, with the best model."""
    monkeypatch.setenv("DATA", str(mixed_beir))
    changes = {
        "encoder.name": tiny_encoder_dir,
        "data.query_length": 24,
        "data.passage_length": 32,
        "run.output": tmp_path / "run",
        "evaluation.every": 1,
        "evaluation.patience": 3,
        "deepspeed.optimizer.params": "{lr: 0.05, torch_adam: true}",
        "deepspeed.scheduler.params": "{warmup_max_lr: 0.05, warmup_num_steps: 1, warmup_type: linear}",
    }
    path = REPOSITORY / "configs" / "finetune" / "few_shot_8.yaml"
    train.run(load_train_config(path, [f"{name}={value}" for name, value in changes.items()]))
    ended = json.loads((tmp_path / "run" / "finished.json").read_text())
    scores = [line["scores"]["mean"]["ndcg@10"] for line in read_log(tmp_path / "run" / SCORES)]
    best = 1 + int(np.argmax(scores[1:]))  # the untrained model is not a candidate
    assert ended["stopped_early"]
    assert (ended["best_step"], ended["step"]) == (best, best + 3)
    assert (tmp_path / "run" / "best" / "model.safetensors").exists()
