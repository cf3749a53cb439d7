"""Where and how the rows of finetuning_gains.py are trained."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcontriever.cli import main
from mcontriever.processor import trains_in_bf16

Config = dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """How an encoder is trained in every row: `passages` are those of a step."""

    steps: int
    passages: int
    rates: tuple[float, float]
    section: Config
    bf16: bool  # where the processor has it


SHIPPED = {
    "nano": Kind(40, 64, (3e-4, 1e-3), {}, bf16=False),
    "mini": Kind(30, 32, (2e-5, 1e-4), {"frozen_layers": 5}, bf16=False),
}
LOW = {"enabled": "auto", "dtype": "bfloat16", "lower_precision_safe_modules": []}
TRANSFORMER = Kind(30, 64, (5e-5, 2e-4), {}, bf16=True)


@dataclass(frozen=True)
class Work:
    """Where the rows of one encoder are made, and with what. `writer` writes questions."""

    encoder: str
    folder: Path
    writer: Path | None = None

    @property
    def kind(self) -> Kind:
        return SHIPPED.get(self.encoder, TRANSFORMER)

    def run(self, *words: object) -> None:
        """One of mcontriever's commands, in this process: to start a new one for each takes longer than to train."""
        try:
            main([str(word) for word in words])
        except SystemExit as ended:
            if ended.code:
                raise

    def write(self, name: str, values: Config) -> Path:
        path = self.folder / "configs" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values, indent=1))
        return path

    def model(self, row: str) -> Path:
        return self.folder / row / "model"

    def trained(self, row: str, values: Config) -> Path:
        if not self.model(row).is_dir():
            self.run("train", "--config", self.write(row, values))
            if not self.model(row).is_dir():
                raise SystemExit(f"{row} was stopped; the same command goes on")
            shutil.rmtree(self.folder / row / "checkpoints")  # the optimizer's moments of a dozen rows fill a disk
        return self.model(row)

    def of_mined(self, name: str) -> Config:
        return {"format": "dpr", "paths": [str(self.folder / name / "mined-*.jsonl")]}


def finetuned(work: Work, row: str, rate: float, seed: int, **changes: Any) -> Config:
    """A configuration with a mined negative for each question; `changes` replace sections or parts of them."""
    values: Config = {
        "stage": "finetune",
        "encoder": {"name": work.encoder} | work.kind.section,
        "data": {
            "examples": work.of_mined("mined"),
            "negatives": 1,
            "hard_ratio": 1.0,
            "query_length": 32,
            "passage_length": 128,
        },
        "objective": {"kind": "contrastive", "temperature": 0.05},
        "run": {
            "output": str(work.folder / row),
            "steps": work.kind.steps,
            "log_every": 10,
            "save_every": work.kind.steps,
            "seed": seed,
        },
        "deepspeed": schedule(work, rate, work.kind.passages // 2),
    }
    return values | {name: values.get(name, {}) | part if name == "data" else part for name, part in changes.items()}


def schedule(work: Work, rate: float, batch: int) -> Config:
    adam = {"lr": rate, "betas": [0.9, 0.98], "eps": 1e-6, "weight_decay": 0.01, "torch_adam": True}
    warm_up = {"warmup_max_lr": rate, "warmup_num_steps": 6, "warmup_type": "linear"}
    low = {"torch_autocast": LOW} if work.kind.bf16 and trains_in_bf16() else {}
    return low | {
        "train_batch_size": batch,
        "gradient_clipping": 1.0,
        "optimizer": {"type": "AdamW", "params": adam},
        "scheduler": {"type": "WarmupDecayLR", "params": warm_up},
    }


def questions(work: Work) -> Config:
    return {"format": "columns", "paths": [str(work.folder / "train.jsonl")]}


def mining(work: Work) -> Config:
    searcher = {"kind": "dense", "negatives": 4, "last_rank": 30, "relative_margin": 0.95}
    return {"searchers": [searcher], "device": "cpu"}


def named(row: str, seed: int) -> str:
    return row if seed == 0 else f"{row}-seed-{seed}"
