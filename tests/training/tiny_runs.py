"""Tiny training runs for tests: a configuration in a few lines, and what a run has logged."""

from pathlib import Path
from typing import Any

import yaml

from mcontriever import train
from mcontriever.assembly.training_config import TrainConfig, parse_train_config
from mcontriever.training.metrics_log import METRICS, read_log

TIMED = {"tokens_per_second", "data_wait", "memory_gib"}
AUTOCAST = {"enabled": True, "dtype": "bfloat16", "lower_precision_safe_modules": []}


def tiny_values(output: Path, tokens: Path, tokenizer: Path) -> dict[str, Any]:
    """Two layers of 32, MoCo with a queue that wraps, dropout on, a log line every third step."""
    return {
        "stage": "pretrain",
        "encoder": {
            "architecture": {
                "hidden_size": 32,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "intermediate_size": 64,
            },
            "tokenizer": str(tokenizer),
            "similarity": "cosine",
            "max_length": 64,
        },
        "data": {"tokens": str(tokens), "window": 48, "view": {"kind": "crops"}},
        "objective": {"kind": "moco", "temperature": 0.1, "queue_size": 20, "momentum": 0.9},
        "run": {"output": str(output), "steps": 7, "log_every": 3, "save_every": 2},
        "deepspeed": {
            "train_batch_size": 8,
            "train_micro_batch_size_per_gpu": 4,
            "gradient_clipping": 1.0,
            "zero_optimization": {"stage": 1},
            "optimizer": {"type": "AdamW", "params": {"lr": 0.01, "torch_adam": True, "fused": True}},
            "scheduler": {"type": "WarmupLR", "params": {"warmup_num_steps": 3, "warmup_max_lr": 0.01}},
        },
    }


def tiny_config(values: dict[str, Any], *changes: str) -> TrainConfig:
    return parse_train_config(yaml.safe_load(yaml.safe_dump(values)), "tiny.yaml", list(changes))


def write_config(path: Path, values: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(values))
    return path


def run_tiny(values: dict[str, Any], *changes: str) -> Path:
    config = tiny_config(values, *changes)
    train.run(config)
    return Path(config.run.output)


def logged(run: Path) -> list[dict[str, Any]]:
    """What must be the same in two runs: all of the log but what the clock says."""
    return [{name: value for name, value in line.items() if name not in TIMED} for line in read_log(run / METRICS)]
