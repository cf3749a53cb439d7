"""Fine-tuning through the one training loop: every loss in pieces equals it in one go; ASAM; rounds; refusals."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mcontriever import mine, train
from mcontriever.assembly.training_config import FinetuneConfig, load_train_config
from mcontriever.config import MineConfig, parse_config
from mcontriever.encoder import Encoder
from mcontriever.errors import ConfigError, DataError, StoreError
from mcontriever.finetuning.refreshed import round_folder
from mcontriever.retrieval.searcher import Index
from mcontriever.training.checkpoints import checkpoints_of
from tests.conftest import SENTENCES
from tests.training.asam_by_hand import asam_by_hand
from tests.training.tiny_runs import AUTOCAST, logged

# DeepSpeed's own calls into torch
pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.distributed.*` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:`torch.jit.*` is deprecated:DeprecationWarning"),
]
LEARNING_RATE = 1e-3


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty sentences; half of a sentence asks for it; two others are hard negatives, all with a teacher's scores."""
    path = tmp_path_factory.mktemp("examples") / "train.jsonl"
    texts = [text for group in SENTENCES.values() for text in group]
    records = [
        {
            "query": text[: len(text) // 2],
            "positive": text,
            "negative": [texts[number - 1], texts[number - 2]],
            "scores": [3.0, number / 20, 1.0],
        }
        for number, text in enumerate(texts)
    ]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.fixture
def values(tmp_path: Path, examples: Path, tiny_encoder_dir: Path) -> dict[str, Any]:
    return {
        "stage": "finetune",
        "encoder": {"name": str(tiny_encoder_dir)},
        "data": {
            "examples": {"format": "columns", "paths": [str(examples)]},
            "negatives": 2,
            "hard_ratio": 0.5,
            "query_length": 24,
            "passage_length": 32,
        },
        "objective": {"kind": "contrastive", "temperature": 0.05},
        "run": {"output": str(tmp_path / "run"), "steps": 5, "log_every": 1, "save_every": 10},
        "deepspeed": {
            "train_micro_batch_size_per_gpu": 4,
            "zero_optimization": {"stage": 0},
            "optimizer": {"type": "AdamW", "params": {"lr": LEARNING_RATE, "weight_decay": 0.0, "torch_adam": True}},
        },
    }


def run(values: dict[str, Any], **changes: Any) -> Path:
    merged = {**values, "run": {**values["run"], **changes}}
    train.run(parse_config(FinetuneConfig, merged, source="test"))
    return Path(merged["run"]["output"])


def weights(run_folder: Path) -> dict[str, torch.Tensor]:
    return load_file(checkpoints_of(run_folder)[-1] / "model" / "model.safetensors")


KINDS: dict[str, dict[str, Any]] = {
    "contrastive about topics": {
        "objective": {"dimensions": [8], "rows_per_sub_batch": 3},
        "data": {"topics": {"clusters": 3}},
    },
    "passage_relation": {"objective": {"kind": "passage_relation", "alpha": 0.2}},
    "distillation": {"objective": {"kind": "distillation"}, "data": {"hard_ratio": 1.0, "margin_bins": 4}},
    "late_interaction": {"objective": {"kind": "late_interaction", "dimension": 8, "rows_per_sub_batch": 3}},
    "two encoders": {
        "encoder": {"own_query_encoder": True},
        "deepspeed": {"zero_optimization": {"stage": 2}},
    },
    "asam": {
        "run": {"asam": {"rho": 0.1}},
        "deepspeed": {"zero_optimization": {"stage": 1}, "torch_autocast": AUTOCAST},
    },
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_in_pieces_equals_the_straight_run_bit_for_bit(values: dict[str, Any], tmp_path: Path, kind: str) -> None:
    for section, changes in KINDS[kind].items():
        values[section] = {**values[section], **changes}
    straight = run(values, output=str(tmp_path / "straight"))
    run(values, stop_at=3)
    assert not (tmp_path / "run" / "finished.json").exists()
    pieces = run(values)
    assert [line["loss"] for line in logged(pieces)] == [line["loss"] for line in logged(straight)]
    assert all(torch.equal(weights(pieces)[name], tensor) for name, tensor in weights(straight).items())
    assert (pieces / "finished.json").exists()


def test_two_encoders_move_apart_and_only_where_both_have_a_side(values: dict[str, Any], tmp_path: Path) -> None:
    values["encoder"]["own_query_encoder"] = True
    folder = run(values)
    sides = [load_file(folder / "model" / part) for part in ("model.safetensors", "query/model.safetensors")]
    layer = "encoder.layer.0.output.dense.weight"
    start = load_file(Path(values["encoder"]["name"]) / "model.safetensors")[layer]
    assert not torch.equal(sides[0][layer], sides[1][layer])
    assert all(not torch.equal(side[layer], start) for side in sides)
    values["objective"] = {"kind": "distil"}
    values["data"]["teacher"] = {"queries": "q", "passages": "p"}
    with pytest.raises(ConfigError, match=r"for fine-tuning on labelled queries, not for distil\n.*own_query_encoder"):
        run(values, output=str(tmp_path / "other"))


@pytest.mark.parametrize("bag", [False, True], ids=["layers", "a bag"])
def test_with_frozen_passages_a_store_made_before_is_searched(
    values: dict[str, Any], tmp_path: Path, tiny_encoder_dir: Path, tokenizer: Any, bag: bool
) -> None:
    """The queries' weights move, the passages' vectors stay bit for bit, and only for searching is that enough."""
    texts = [text for group in SENTENCES.values() for text in group]
    if bag:  # an exported one has its token weights folded in, which training takes apart again
        architecture = {"hidden_size": 32, "num_hidden_layers": 0, "token_weights": True}
        made = Encoder.from_random(architecture, tokenizer, max_length=64)
        assert made.token_weights is not None
        torch.nn.init.uniform_(made.token_weights.weight, 0.5, 2.0)
        values["encoder"]["name"] = str(made.save(tmp_path / "bag"))
    before = Encoder.load(values["encoder"]["name"])
    Index.build(before, texts, tmp_path / "store")
    values["encoder"] |= {"own_query_encoder": True, "frozen_passages": True, "dropout": 0.1}
    folder = run(values)
    trained = Encoder.load(folder / "model")
    assert np.array_equal(trained.embed_documents(texts), before.embed_documents(texts))
    assert not np.allclose(trained.embed_queries(texts), before.embed_queries(texts), atol=1e-3)
    found = Index.open(tmp_path / "store", encoder=trained).search(texts[0], k=len(texts), merge="raw")
    scores = {hit.id: hit.score for hit in found}
    wanted = trained.embed_queries(texts[:1]) @ before.embed_documents(texts).T
    assert [scores[str(number)] for number in range(len(texts))] == pytest.approx(wanted[0].tolist(), rel=1e-3)
    with pytest.raises(StoreError, match="made by another encoder"):
        Index.open(tmp_path / "store", encoder=Encoder.load("nano")).search("x")
    with pytest.raises(ConfigError, match=r"frozen_passages leaves only queries to train(.|\n)*own_query_encoder"):
        run({**values, "encoder": {**values["encoder"], "own_query_encoder": False}})


@pytest.mark.parametrize("micro_batch", [4, 2])
def test_asam_equals_the_algorithm_by_hand(
    values: dict[str, Any], examples: Path, tiny_encoder_dir: Path, micro_batch: int
) -> None:
    """Two micro steps, whose queries do not meet, must come out differently: the comparison is sharp enough to tell."""
    values["encoder"]["dropout"] = 0.0
    values["deepspeed"] |= {
        "gradient_clipping": 0.0,  # DeepSpeed's own default is 1
        "optimizer": {"type": "SGD", "params": {"lr": LEARNING_RATE}},
        "train_micro_batch_size_per_gpu": micro_batch,
        "gradient_accumulation_steps": 4 // micro_batch,
    }
    trained = weights(run(values, steps=3, asam={"rho": 0.2, "eta": 0.01}))
    by_hand = asam_by_hand(examples, tiny_encoder_dir, rate=LEARNING_RATE, steps=3, rho=0.2, eta=0.01)
    plain = asam_by_hand(examples, tiny_encoder_dir, rate=LEARNING_RATE, steps=3, rho=0.0, eta=0.01)
    name = "encoder.layer.0.output.dense.weight"
    moved = float((by_hand[name] - plain[name]).abs().max())
    apart = float((trained[name] - by_hand[name]).abs().max())
    assert moved > 1e-4
    assert apart < 1e-3 * moved if micro_batch == 4 else apart > 0.1 * moved


def mined_round(values: dict[str, Any], step: int) -> None:
    folder = Path(values["run"]["output"])
    config = {
        "examples": values["data"]["examples"],
        "model": str(folder / "checkpoints" / f"step-{step:08}" / "model"),
        "searchers": [{"kind": "dense", "negatives": 2, "last_rank": 10}],
        "output": str(round_folder(folder, step)),
    }
    mine.run(MineConfig.model_validate(config))


def test_training_stops_where_fresh_negatives_are_due(values: dict[str, Any], tmp_path: Path) -> None:
    values["data"] |= {"refresh_every": 2, "hard_ratio": 1.0}
    folder = run(values)
    assert [path.name for path in checkpoints_of(folder)] == ["step-00000002"]
    with pytest.raises(StoreError, match=r"due from step 2 on, but have not been mined(.|\n)*mcontriever run"):
        run(values)
    for step in (2, 4):
        mined_round(values, step)
        run(values)
    assert [line["step"] for line in logged(folder)] == [1, 2, 3, 4, 5]
    del values["data"]["refresh_every"]
    unrefreshed = run(values, output=str(tmp_path / "unrefreshed"))
    losses = [[line["loss"] for line in logged(path)] for path in (folder, unrefreshed)]
    assert losses[0][:2] == losses[1][:2]
    assert losses[0][2:] != losses[1][2:]


def test_metrics_tell_how_well_negatives_are_distinguished(values: dict[str, Any]) -> None:
    line = logged(run(values, steps=1))[0]
    assert {"accuracy", "chance", "margin", "positive_score", "negative_score", "hard_share", "mean_cosine"} <= set(
        line
    )
    assert line["chance"] == pytest.approx(1 / 12, abs=0.01)
    assert 0 < line["hard_share"] <= 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data.negatives": 0, "deepspeed.train_micro_batch_size_per_gpu": 1}, "nothing to contrast"),
        ({"objective": {"kind": "distillation"}, "data.hard_ratio": 0.0}, r"hard_ratio 0.0"),
        ({"objective.dimensions": [32]}, "objective.dimensions has 32, the encoder has 32 dimensions"),
        ({"data.passage_length": 500}, "the encoder takes"),
        (
            {"run.asam": {}, "deepspeed.zero_optimization": {"stage": 2}},
            r"run.asam needs whole weights on each process, ZeRO-2",
        ),
        ({"data.topics": {}, "encoder": {"architecture": {}, "tokenizer": "nano"}}, "no trained encoder"),
    ],
)
def test_what_cannot_work_is_refused(values: dict[str, Any], changes: dict[str, Any], message: str) -> None:
    for key, value in changes.items():
        *sections, last = key.split(".")
        place = values
        for section in sections:
            place = place[section]
        place[last] = {**place[last], **value} if last == "run" else value
        if key == "objective":
            place[last] = {"temperature": 1.0, **value}
    with pytest.raises(ConfigError, match=message):
        run(values)


def test_distillation_needs_a_teacher(values: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "plain.jsonl"
    path.write_text(json.dumps({"query": "q", "positive": "p", "negative": "n"}) + "\n")
    values["data"] |= {"examples": {"format": "columns", "paths": [str(path)]}, "hard_ratio": 1.0}
    values["objective"] = {"kind": "distillation"}
    with pytest.raises(DataError, match=r"no negative of the examples has a teacher's score(.|\n)*cross_encoder"):
        run(values)


def test_the_stage_chooses_the_configuration(values: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps(values))
    assert isinstance(load_train_config(path, ["run.steps=9"]), FinetuneConfig)
    block = tmp_path / "deepspeed.json"
    block.write_text(json.dumps({**values["deepspeed"], "gradient_clipping": 0.25}))
    assert load_train_config(path, deepspeed=block).deepspeed["gradient_clipping"] == 0.25
    block.write_text("[1]")
    with pytest.raises(ConfigError, match=rf"DeepSpeed's keys and values, found list\n.*{block}"):
        load_train_config(path, deepspeed=block)
    path.write_text(json.dumps({"output": "runs/plan", "stages": []}))
    with pytest.raises(ConfigError, match=rf"a plan of several stages(.|\n)*mcontriever run {path}"):
        load_train_config(path)
    path.write_text(json.dumps({**values, "stage": "fine-tune"}))
    with pytest.raises(ConfigError, match=r"stage is 'fine-tune'(.|\n)*pretrain or finetune"):
        load_train_config(path)
    with pytest.raises(ConfigError, match=r"unknown key data.querry_length(.|\n)*data.query_length"):
        parse_config(FinetuneConfig, {**values, "data": {**values["data"], "querry_length": 8}}, source="x")
