"""The deepspeed block: what is filled in, and what is refused with which words."""

import logging
from typing import Any

import pytest
import torch

from mcontriever.assembly.training_config import load_train_config
from mcontriever.errors import ConfigError
from mcontriever.processor import multiplies_bf16
from mcontriever.training import engine_settings
from mcontriever.training.engine_settings import NEVER, autocast_dtype, complete_settings, well_formed
from tests.conftest import REPOSITORY

OPTIMIZER = {"type": "AdamW", "params": {"lr": 1e-3}}
BLOCK: dict[str, Any] = {"train_micro_batch_size_per_gpu": 4, "optimizer": OPTIMIZER}


def complete(world_size: int = 2, total_steps: int = 100, **changes: Any) -> dict[str, Any]:
    return complete_settings(well_formed({**BLOCK, **changes}), world_size=world_size, total_steps=total_steps)


def test_the_block_is_handed_over_as_it_is_but_for_what_it_implies() -> None:
    given = {**BLOCK, "zero_optimization": {"stage": 2, "overlap_comm": True}, "gradient_clipping": 0.5}
    settings = complete_settings(given, world_size=2, total_steps=100)
    added = {"steps_per_print": NEVER, "train_batch_size": 8, "gradient_accumulation_steps": 1}
    assert settings == {**given, **added}


@pytest.mark.parametrize(
    ("sizes", "world_size", "expected"),
    [
        ({"train_micro_batch_size_per_gpu": 4}, 3, (12, 4, 1)),
        ({"train_micro_batch_size_per_gpu": 4, "gradient_accumulation_steps": 2}, 3, (24, 4, 2)),
        ({"train_micro_batch_size_per_gpu": 4, "train_batch_size": 32}, 2, (32, 4, 4)),
        ({"train_batch_size": 32}, 2, (32, 16, 1)),
        ({"train_batch_size": 32, "gradient_accumulation_steps": 4}, 2, (32, 4, 4)),
    ],
)
def test_batch_sizes_are_completed(sizes: dict[str, int], world_size: int, expected: tuple[int, ...]) -> None:
    settings = complete_settings({"optimizer": OPTIMIZER, **sizes}, world_size=world_size, total_steps=10)
    names = ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps")
    assert tuple(settings[name] for name in names) == expected


def test_a_decaying_schedule_ends_with_the_run() -> None:
    scheduler = {"type": "WarmupDecayLR", "params": {"warmup_num_steps": 5}}
    assert complete(scheduler=scheduler)["scheduler"]["params"]["total_num_steps"] == 100
    assert "total_num_steps" not in complete(scheduler={"type": "WarmupLR"})["scheduler"]["params"]


@pytest.mark.parametrize(
    ("changes", "what", "fix"),
    [
        ({"zero_optimisation": {"stage": 2}}, "unknown key deepspeed.zero_optimisation", "zero_optimization?"),
        ({"activation_checkpointing": {}}, "does nothing in this trainer", "encoder.checkpoint_layers"),
        ({"fp16": {"enabled": True}}, "fp16 is set", "bfloat16"),
        ({"torch_autocast": {"enabled": True, "dtype": "float16"}}, "fp16 is set", "bfloat16"),
        ({"bf16": {"enabled": True}}, "keeps the weights in bf16", "torch_autocast"),
        ({"torch_autocast": {"enabled": True, "dtype": "float32"}}, "dtype is 'float32'", "omit it for float32"),
        ({"torch_autocast": 5}, "deepspeed.torch_autocast is 5, and not a section", "give its keys"),
        (
            {"optimizer": {"type": "AdamW", "params": [1]}},
            "optimizer.params is [1], and not a section",
            "give its keys",
        ),
        ({"scheduler": "WarmupLR"}, "deepspeed.scheduler is 'WarmupLR', and not a section", "give its keys"),
        ({"zero_optimization": {"stage": 4}}, "stage is 4", "choose 0, 1, 2 or 3"),
        ({"zero_optimization": {"stage": "two"}}, "stage is 'two'", "choose 0, 1, 2 or 3"),
        ({"gradient_clipping": "one"}, "gradient_clipping is 'one'", "the largest norm"),
        ({"gradient_clipping": -1}, "gradient_clipping is -1", "the largest norm"),
        ({"steps_per_print": 0}, "steps_per_print is 0", "omit it"),
        (
            {"scheduler": {"type": "WarmupDecayLR", "params": {"total_num_steps": "all"}}},
            "total_num_steps is 'all'",
            "omit it",
        ),
        ({"zero_optimization": {"offload_optimizer": {"device": "nvme"}}}, "device is nvme", "device: cpu"),
        ({"train_batch_size": 9}, "9 is not 4 rows x 1 accumulation steps x 2 processes", "a multiple of"),
        ({"train_micro_batch_size_per_gpu": 0}, "train_micro_batch_size_per_gpu is 0", "a whole number from 1"),
        ({"train_micro_batch_size_per_gpu": None}, "has no batch size", "train_micro_batch_size_per_gpu"),
        ({"optimizer": {}}, "names no optimizer", "AdamW"),
        ({"optimizer": {"type": "AdamW", "params": {"lr": -1}}}, "lr is -1", "above 0"),
        (
            {"scheduler": {"type": "WarmupDecayLR", "params": {"total_num_steps": 50}}},
            "ends at step 50, the run at step 100",
            "omit it",
        ),
    ],
)
def test_what_cannot_be_right_is_refused(changes: dict[str, Any], what: str, fix: str) -> None:
    with pytest.raises(ConfigError) as caught:
        complete(**changes)
    assert what in caught.value.what
    assert caught.value.fix
    assert fix in caught.value.fix


def test_null_takes_a_key_out_of_a_configuration() -> None:
    file = REPOSITORY / "configs" / "mini" / "distil.yaml"
    block = load_train_config(file, ["deepspeed.torch_autocast=null", "deepspeed.optimizer.params.eps=null"]).deepspeed
    assert "torch_autocast" in load_train_config(file).deepspeed
    assert "torch_autocast" not in block
    assert "eps" not in complete_settings(block, world_size=1, total_steps=10)["optimizer"]["params"]


@pytest.mark.parametrize("value", ["5", "[1]", "stage"])
def test_a_section_of_another_shape_is_refused_as_it_is_read(value: str) -> None:
    with pytest.raises(ConfigError, match=r"zero_optimization is .*, and not a section"):
        load_train_config(REPOSITORY / "configs" / "mini" / "distil.yaml", [f"deepspeed.zero_optimization={value}"])


def test_autocast_that_is_auto_follows_the_device(caplog: pytest.LogCaptureFixture) -> None:
    autocast = {"dtype": "bfloat16", "lower_precision_safe_modules": []}
    native = torch.cuda.is_available() or multiplies_bf16()
    with caplog.at_level(logging.WARNING, "mcontriever"):
        assert complete(torch_autocast={**autocast, "enabled": "auto"})["torch_autocast"]["enabled"] is native
        assert autocast_dtype({"torch_autocast": {**autocast, "enabled": "auto"}}) == ("bfloat16" if native else None)
        assert not caplog.messages
        engine_settings._warn_of_emulated_bf16.cache_clear()
        for _ in range(2):
            assert complete(torch_autocast={**autocast, "enabled": True})["torch_autocast"]["enabled"] is True
    assert len(caplog.messages) == (0 if native else 1)
    assert native or "this processor emulates bfloat16, so products take" in caplog.messages[0]
    with pytest.raises(ConfigError, match=r"torch_autocast\.enabled is 'yes'"):
        complete(torch_autocast={**autocast, "enabled": "yes"})


def test_a_lossy_exchange_under_zero_3_is_named(caplog: pytest.LogCaptureFixture) -> None:
    autocast = {"enabled": True, "dtype": "bfloat16"}
    with caplog.at_level(logging.WARNING, "mcontriever"):
        complete(zero_optimization={"stage": 3}, torch_autocast={**autocast, "lower_precision_safe_modules": []})
        assert not [message for message in caplog.messages if "last bits" in message]
        complete(zero_optimization={"stage": 3}, torch_autocast=autocast)
    assert "may differ in the last bits" in caplog.messages[-1]


def test_a_warm_up_longer_than_the_run_is_named_but_runs(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "mcontriever"):
        complete(scheduler={"type": "WarmupDecayLR", "params": {"warmup_num_steps": 100}})
    assert "the warm-up takes 100 steps, the run has 100" in caplog.messages[0]
