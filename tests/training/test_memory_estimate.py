"""Costs from arithmetic, against models that are really built (without memory), and in the configurations' comments."""

import re
from pathlib import Path

import pytest
import torch

from mcontriever.assembly.run_cost import run_cost
from mcontriever.assembly.training_config import load_train_config
from mcontriever.training.memory_estimate import KNOWN, Architecture, Work

CONFIGS = sorted((Path(__file__).resolve().parents[2] / "configs" / "pretrain").glob("*.yaml"))
XLMR = {"model_type": "xlm-roberta", "max_position_embeddings": 514, "type_vocab_size": 1}
MODELS = {
    "xlm-roberta-base": {**XLMR, "vocab_size": 250002},
    "xlm-roberta-large": {
        **XLMR,
        "vocab_size": 250002,
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
    },
    "bert-base-multilingual-cased": {"model_type": "bert", "vocab_size": 119547},
    "bert-base-uncased": {"model_type": "bert", "vocab_size": 30522},
}


@pytest.mark.parametrize("name", MODELS)
def test_parameters_are_counted_as_transformers_builds_them(name: str) -> None:
    from transformers import AutoConfig, AutoModel

    values = dict(MODELS[name])
    config = AutoConfig.for_model(values.pop("model_type"), **values)
    with torch.device("meta"):
        model = AutoModel.from_config(config, dtype=torch.float32)
    built = sum(parameter.numel() for key, parameter in model.named_parameters() if "pooler" not in key)
    assert KNOWN[name].parameters == Architecture.of(config.to_dict()).parameters == built


def work(**changes: object) -> Work:
    values: dict[str, object] = {
        "architecture": KNOWN["xlm-roberta-base"],
        "rows_with_gradient": 64,
        "rows_without_gradient": 64,
        "row_length": 80.0,
        "micro_steps": 1,
        "steps": 10,
        "world_size": 8,
        "queue_size": 32768,
        "momentum": True,
        "precision": "float32",
        "checkpoint_layers": False,
        "rows_at_once": None,
    }
    return Work(**{**values, **changes})  # type: ignore[arg-type]


def test_zero_divides_what_it_divides() -> None:
    size = 4 * KNOWN["xlm-roberta-base"].parameters
    memory = [work().memory_bytes(stage) for stage in range(4)]
    assert [m["weights"] for m in memory] == [size, size + size / 8, size + size / 8, size / 8]
    assert [m["gradients"] for m in memory] == [size, size, size / 8, size / 8]
    assert [m["optimizer"] for m in memory] == [2 * size, size / 4, size / 4, size / 4]
    assert memory[0]["momentum and queue"] == size + 4 * 32768 * 768


def test_arithmetic_is_three_forwards_with_gradient_and_one_without() -> None:
    weights_flops = 2 * 12 * (4 * 768**2 + 2 * 768 * 3072) * 64 * 80
    score_flops = 4 * 12 * 768 * 80 * 64 * 80
    assert work(world_size=1).flops_per_update == 4 * (weights_flops + score_flops)
    assert work(world_size=1, checkpoint_layers=True).flops_per_update == 5 * (weights_flops + score_flops)
    less = work(checkpoint_layers=True).memory_bytes(1)["activations"]
    assert less < work().memory_bytes(1)["activations"] / 4


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_each_configuration_says_what_it_costs(path: Path) -> None:
    comment = " ".join(
        line.lstrip("# ") for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")
    )
    found = re.search(r"Computed \(--estimate --gpus (\d+)\): (.*?GB per GPU \(ZeRO-\d\))", comment)
    assert found, path
    vocabulary = re.search(r"--vocabulary (\d+)", comment)  # of a tokenizer that is made first
    changes = [f"encoder.architecture.vocab_size={vocabulary[1]}"] if vocabulary else []
    config = load_train_config(path, changes)
    assert run_cost(config, int(found[1]), short=True).startswith(found[2])


def test_the_fine_tuning_batch_fits_where_its_configuration_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSMARCO", "msmarco")
    path = CONFIGS[0].parents[1] / "finetune" / "mcontriever_msmarco.yaml"
    config = load_train_config(path, ["encoder.name=FacebookAI/xlm-roberta-base"])
    small, large = (run_cost(config, gpus) for gpus in (1, 8))
    assert re.search(r"1 x RTX 4090 .*, 128 at a time +17\.7 GB +35\.1 h", small)
    assert re.search(r"8 x A100 80 GB .* 38\.8 GB +1\.7 h", large)
    comment = path.read_text(encoding="utf-8").split("stage:")[0]
    assert all(figure in comment for figure in ("38.8 GB", "1.7 h", "128 texts at a time", "17.7 GB", "35.1 h"))


def test_asam_does_all_twice_and_holds_two_tables_more() -> None:
    plain, sharp = (work(rows_without_gradient=0, asam=asam) for asam in (False, True))
    assert sharp.flops_per_update == 2 * plain.flops_per_update
    more = sum(sharp.memory_bytes(1).values()) - sum(plain.memory_bytes(1).values())
    assert more == 2 * 4 * plain.architecture.parameters


def test_frozen_weights_have_no_gradient_and_no_moments() -> None:
    table = 250002 * 768
    plain, frozen = work().memory_bytes(0), work(frozen_parameters=table).memory_bytes(0)
    saved = {name: plain[name] - frozen[name] for name in plain if plain[name] != frozen[name]}
    assert saved == {"gradients": 4 * table, "optimizer": 8 * table}
