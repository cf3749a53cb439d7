"""The rows of finetuning_gains.py: each trains one model, with mcontriever's own commands."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from gains_data import write_lines

from mcontriever.cli import main

ENCODERS: dict[str, dict[str, Any]] = {"nano": {"name": "nano"}, "mini": {"name": "mini", "frozen_layers": 5}}
STEPS, PASSAGES = {"nano": 40, "mini": 30}, {"nano": 64, "mini": 32}  # passages of a step, in every row
Config = dict[str, Any]


@dataclass(frozen=True)
class Work:
    """Where the rows of one encoder are made, and with what."""

    encoder: str
    folder: Path

    @property
    def steps(self) -> int:
        return STEPS[self.encoder]

    @property
    def passages(self) -> int:
        return PASSAGES[self.encoder]

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
        "encoder": ENCODERS[work.encoder],
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
            "steps": work.steps,
            "log_every": 10,
            "save_every": work.steps,
            "seed": seed,
        },
        "deepspeed": schedule(rate, work.passages // 2),
    }
    return values | {name: values.get(name, {}) | part if name == "data" else part for name, part in changes.items()}


def schedule(rate: float, batch: int) -> Config:
    adam = {"lr": rate, "betas": [0.9, 0.98], "eps": 1e-6, "weight_decay": 0.01, "torch_adam": True}
    warm_up = {"warmup_max_lr": rate, "warmup_num_steps": 6, "warmup_type": "linear"}
    return {
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


def mined(work: Work) -> None:
    if not (work.folder / "mined").is_dir():
        values = {"examples": questions(work), "model": work.encoder, "output": str(work.folder / "mined")}
        work.run("mine", "--config", work.write("mine", values | mining(work)))


def named(row: str, seed: int) -> str:
    return row if seed == 0 else f"{row}-seed-{seed}"


def start(work: Work, rate: float, seed: int) -> Path:
    return Path(work.encoder)


def in_batch(work: Work, rate: float, seed: int, row: str = "") -> Path:
    row = row or named("in-batch", seed)
    data = {"examples": questions(work), "negatives": 0, "hard_ratio": 0.0}
    return work.trained(row, finetuned(work, row, rate, seed, data=data, deepspeed=schedule(rate, work.passages)))


def random_negative(work: Work, rate: float, seed: int) -> Path:
    row = named("random", seed)
    data = {"examples": questions(work), "hard_ratio": 0.0}
    return work.trained(row, finetuned(work, row, rate, seed, data=data))


def mined_negative(work: Work, rate: float, seed: int) -> Path:
    mined(work)
    row = named("mined", seed) + "-negatives"
    return work.trained(row, finetuned(work, row, rate, seed))


def ance(work: Work, rate: float, seed: int) -> Path:
    """Mined with the start, and again after half of the steps."""
    mined(work)
    row = named("ance", seed)
    train = finetuned(work, row, rate, seed, data={"refresh_every": work.steps // 2})
    train["run"]["save_every"] = work.steps // 2
    stages = [{"alternate": {"train": train, "mine": mining(work)}}]
    if not work.model(row).is_dir():
        work.run("run", work.write(row, {"output": str(work.folder / f"{row}-plan"), "stages": stages}))
    return work.model(row)


def pair(work: Work, rate: float, seed: int) -> Path:
    mined(work)
    row = named("pair", seed)
    objective = {"kind": "passage_relation", "temperature": 0.05, "alpha": 0.1}
    return work.trained(row, finetuned(work, row, rate, seed, objective=objective))


def late_interaction(work: Work, rate: float, seed: int) -> Path:
    mined(work)
    row = named("late-interaction", seed)
    return work.trained(row, finetuned(work, row, rate, seed, objective={"kind": "late_interaction"}))


def taught(work: Work, rate: float) -> Config:
    """The mined examples with the late-interaction model's score for every passage."""
    from sentence_transformers import MultiVectorEncoder

    teacher, target = MultiVectorEncoder(str(late_interaction(work, rate, 0)), device="cpu"), work.folder / "taught"
    if not target.is_dir():
        vectors = cache(lambda text: teacher.encode_document(text, convert_to_numpy=True, show_progress_bar=False))
        target.mkdir()
        for path in sorted((work.folder / "mined").glob("mined-*.jsonl")):
            records = [json.loads(line) for line in path.read_text(encoding="utf-8").strip().split("\n")]
            for record in records:
                asked = teacher.encode_query(record["question"], convert_to_numpy=True, show_progress_bar=False)
                for passage in (*record["positive_ctxs"], *record["hard_negative_ctxs"]):
                    products = np.asarray(asked) @ np.asarray(vectors(passage["text"])).T
                    passage["teacher_score"] = float(products.max(axis=1).sum())
            write_lines(target / path.name, records)
    return work.of_mined("taught")


def margins(work: Work, rate: float, seed: int) -> Path:
    """Margin-MSE alone: TAS-B without its topics, its balanced margins and its second teacher."""
    row = named("margins", seed)
    objective = {"kind": "distillation", "temperature": 0.05}
    data = {"examples": taught(work, rate)}
    return work.trained(row, finetuned(work, row, rate, seed, data=data, objective=objective))


def tas_b(work: Work, rate: float, seed: int) -> Path:
    row = named("tas-b", seed)
    teacher = str(late_interaction(work, rate, 0))
    objective = {"kind": "distillation", "temperature": 0.05, "in_batch_teacher": teacher, "in_batch_weight": 0.75}
    data = {"examples": taught(work, rate), "topics": {"clusters": 20}, "margin_bins": 10}
    return work.trained(row, finetuned(work, row, rate, seed, data=data, objective=objective))


def raw_text(keys: int, objective: Config) -> Callable[[Work, float, int], Path]:
    """Continued pre-training on the tales as raw text."""

    def of(work: Work, rate: float, seed: int) -> Path:
        row = named(f"raw-{objective['kind']}-{keys}", seed)
        tokens = work.folder / "tokens"
        if not tokens.is_dir():
            recipe = {
                "name": "tales",
                "licence": "that of the tales",
                "sources": [{"reader": "jsonl", "paths": [str(work.folder / "texts.jsonl")], "languages": ["en"]}],
            }
            words = ("--output", tokens, "--tokenizer", work.encoder)
            work.run("prepare", work.write("recipe", recipe).rename(work.folder / "recipe.yaml"), *words)
        view = {"kind": "crops", "min_ratio": 0.1, "max_ratio": 0.5, "keys_per_query": keys}
        values = finetuned(work, row, rate, seed) | {
            "stage": "pretrain",
            "data": {"tokens": str(tokens), "samples_together": work.passages, "window": 256, "view": view},
            "objective": {"temperature": 0.05, "queue_size": 1024, "momentum": 0.99} | objective,
            "deepspeed": schedule(rate, work.passages),
        }
        return work.trained(row, values)

    return of


ROWS: dict[str, Callable[[Work, float, int], Path]] = {
    "start": start,
    "in-batch": in_batch,
    "random": random_negative,
    "mined": mined_negative,
    "ance": ance,
    "pair": pair,
    "late-interaction": late_interaction,
    "margins": margins,
    "tas-b": tas_b,
    "raw, one pair": raw_text(1, {"kind": "moco"}),
    "raw, four pairs": raw_text(4, {"kind": "moco"}),
    "raw, four weighted pairs": raw_text(4, {"kind": "relevance"}),
}
