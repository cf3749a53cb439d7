"""The papers' presets on tiny models and a tiny MS MARCO: TAS-B with both teachers, ANCE, GenQ and docT5query.

Only models, folders, steps and batches differ from the presets. Each ends in scores or hits that a naive form confirms.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mcontriever import mine, train
from mcontriever.assembly.training_config import parse_train_config
from mcontriever.config import MineConfig, PlanConfig, load_config, parse_config
from mcontriever.encoder import Encoder
from mcontriever.encoder.token_encoder import TokenEncoder
from mcontriever.finetuning.refreshed import round_folder
from mcontriever.training.checkpoints import checkpoint_name
from mcontriever.training.metrics_log import METRICS, read_log
from tests.conftest import REPOSITORY, SENTENCES, RunCli
from tests.evaluation.conftest import QUESTIONS
from tests.finetuning.conftest import make_triple_batch
from tests.finetuning.test_late_interaction import naive_scores
from tests.journeys.test_a_task_becomes_a_table import naive_ndcg
from tests.retrieval.test_rerank import save_cross_encoder
from tests.test_generate import t5_dir

__all__ = ["t5_dir"]
CONFIGS = REPOSITORY / "configs"
TEXTS = [text for texts in SENTENCES.values() for text in texts]
ASKED = [question for questions in QUESTIONS.values() for question in questions]
pytestmark = pytest.mark.filterwarnings("ignore")  # DeepSpeed, MTEB and sentence-transformers speak of their futures
SMALL = {
    "data.query_length": 24,
    "data.passage_length": 32,
    "run.log_every": 1,
    "deepspeed.train_batch_size": 4,
    "deepspeed.torch_autocast.enabled": "false",
    "deepspeed.optimizer.params": "{lr: 0.001, torch_adam: true}",
}


@pytest.fixture
def msmarco(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twenty questions, each judged to be answered by one of twenty passages."""
    folder = tmp_path / "msmarco"
    folder.mkdir()
    (folder / "collection.tsv").write_text("".join(f"{number}\t{text}\n" for number, text in enumerate(TEXTS)))
    (folder / "queries.train.tsv").write_text("".join(f"{number}\t{text}\n" for number, text in enumerate(ASKED)))
    (folder / "qrels.train.tsv").write_text("".join(f"{number}\t0\t{number}\t1\n" for number in range(len(TEXTS))))
    monkeypatch.setenv("MSMARCO", str(folder))
    return folder


def changes(values: dict[str, Any]) -> list[str]:
    return [word for name, value in values.items() for word in ("--set", f"{name}={value}")]


def ran(cli: RunCli, *words: object) -> None:
    done = cli(*words)
    assert done.returncode == 0, done.stderr


def test_tas_b_learns_from_both_teachers(
    tmp_path: Path, cli: RunCli, msmarco: Path, mixed_folder: Path, tiny_encoder_dir: Path, tiny_tokenizer_dir: Path
) -> None:
    cross = save_cross_encoder(tmp_path / "cross", tiny_tokenizer_dir)
    mined = {
        "model": tiny_encoder_dir,
        "output": tmp_path / "mined",
        "cross_encoder": f"{{name: {cross}, max_probability: 0.9, examined: 2}}",
        "memory_mb": 64,
    }
    ran(cli, "mine", "--config", CONFIGS / "mine" / "msmarco_denoised.yaml", *changes(mined))
    taught = SMALL | {"encoder.name": tiny_encoder_dir, "data.examples.paths": f'["{tmp_path}/mined/mined-*.jsonl"]'}
    late = {"run.output": tmp_path / "late", "run.steps": 3, "objective.dimension": 8}
    preset = CONFIGS / "finetune" / "late_interaction_msmarco.yaml"
    ran(cli, "train", "--config", preset, *changes(taught | late))
    student = {
        "run.output": tmp_path / "student",
        "run.steps": 3,
        "data.topics.clusters": 3,
        "objective.in_batch_teacher": tmp_path / "late" / "model",
    }
    ran(cli, "train", "--config", CONFIGS / "finetune" / "tas_b_msmarco.yaml", *changes(taught | student))
    log = read_log(tmp_path / "student" / METRICS)
    assert [line["step"] for line in log] == [1, 2, 3]
    assert all(line["in_batch_loss"] > 0 and line["distillation_loss"] > 0 and line["hard_share"] == 1 for line in log)

    ran(cli, "benchmark", "--model", tmp_path / "late/model", tmp_path / "student/model", "--tasks", mixed_folder,
        "--output", tmp_path / "scores")  # fmt: skip
    rows = json.loads((tmp_path / "scores" / "scores.json").read_text())
    found = {
        row["model"]: row["value"] for row in rows if (row["language"], row["metric"]) == ("en->mixed", "ndcg_at_10")
    }
    teacher = TokenEncoder.load(tmp_path / "late" / "model")
    with torch.no_grad():
        scores_QD = naive_scores(teacher, make_triple_batch(teacher, QUESTIONS["en"], TEXTS, length=128)).numpy()
    expected = {"late/model": ndcg_of(scores_QD)}
    encoder = Encoder.load(tmp_path / "student" / "model")
    expected["student/model"] = ndcg_of(encoder.embed_queries(QUESTIONS["en"]) @ encoder.embed_documents(TEXTS).T)
    assert found == pytest.approx(expected, abs=1e-4)


def ndcg_of(scores_QD: np.ndarray) -> float:
    """Of the English questions over the pool: all five versions of a topic are relevant."""
    names = [f"{language}-d{topic}" for language in SENTENCES for topic in range(4)]
    rankings = [[names[place] for place in np.argsort(-scores_D, kind="stable")] for scores_D in scores_QD]
    wanted = [{f"{language}-d{topic}" for language in SENTENCES} for topic in range(4)]
    return float(np.mean([naive_ndcg(*pair, 10) for pair in zip(rankings, wanted, strict=True)]))


def test_ance_mines_again_with_the_model_that_it_has_become(
    tmp_path: Path, msmarco: Path, tiny_encoder_dir: Path
) -> None:
    plan = load_config(PlanConfig, CONFIGS / "finetune" / "ance_msmarco.yaml")
    section = plan.stages[0].alternate
    assert section is not None
    small = {
        **SMALL,
        "encoder.name": tiny_encoder_dir,
        "run.output": tmp_path / "run",
        "run.steps": 4,
        "run.save_every": 2,
    }
    overrides = [f"{name}={value}" for name, value in {**small, "data.refresh_every": 2}.items()]

    def trained() -> Path:
        train.run(parse_train_config(json.loads(json.dumps(section.train)), "ance", overrides))
        return tmp_path / "run"

    checkpoint = trained() / "checkpoints" / checkpoint_name(2) / "model"
    values = {**section.mine, "examples": "msmarco", "model": str(checkpoint), "memory_mb": 64, "merge": "raw"}
    values["searchers"] = [{**values["searchers"][0], "negatives": 3, "last_rank": 6, "choose": "top"}]
    output = round_folder(tmp_path / "run", 2)
    mine.run(parse_config(MineConfig, {**values, "output": str(output)}, "ance"))
    encoder = Encoder.load(checkpoint)
    scores_QD = encoder.embed_queries(ASKED) @ encoder.embed_documents(TEXTS).T
    np.fill_diagonal(scores_QD, -np.inf)
    records = [json.loads(line) for path in sorted(output.glob("mined-*")) for line in path.read_text().splitlines()]
    mined = [[int(passage["id"]) for passage in record["hard_negative_ctxs"]] for record in records]
    assert mined == [np.argsort(-scores_D)[:3].tolist() for scores_D in scores_QD]
    log = read_log(trained() / METRICS)
    assert [(line["step"], line["hard_share"]) for line in log] == [(1, 0.0), (2, 0.0), (3, 1.0), (4, 1.0)]


def test_written_queries_train_a_model_and_expand_a_corpus(
    tmp_path: Path, cli: RunCli, tiny_encoder_dir: Path, t5_dir: Path
) -> None:
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"_id": f"d{n}", "text": text}) + "\n" for n, text in enumerate(TEXTS)))
    written = {"corpus": corpus, "model": t5_dir, "max_query_tokens": 8}
    for preset, name in (("queries", "queries"), ("expanded_documents", "expanded")):
        output = {"output": tmp_path / name}
        ran(cli, "generate", "--config", CONFIGS / "generate" / f"{preset}.yaml", *changes(written | output))
    small = SMALL | {"encoder.name": tiny_encoder_dir, "run.output": tmp_path / "genq", "run.steps": 2}
    small |= {"data.examples.paths": f'["{tmp_path}/queries/generated-*.jsonl"]'}
    ran(cli, "train", "--config", CONFIGS / "finetune" / "genq.yaml", *changes(small))
    assert all(line["gradient_norm"] > 0 for line in read_log(tmp_path / "genq" / METRICS))

    parts = sorted((tmp_path / "expanded").glob("expanded-*.jsonl"))
    expanded = [json.loads(line) for path in parts for line in path.read_text().splitlines()]
    added = expanded[0]["text"].removeprefix(TEXTS[0]).split()
    assert added
    ran(cli, "embed", parts[0], "--model", "bm25", "--output", tmp_path / "store")
    done = cli("search", tmp_path / "store", " ".join(added), "--mode", "bm25", "--json", "-k", 1)
    assert json.loads(done.stdout)["id"] == expanded[0]["id"]
