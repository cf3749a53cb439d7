"""Sentence-transformers' own trainer with MultipleNegativesRankingLoss, timed step by step, for train_step.py."""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.losses import MultipleNegativesRankingLoss
from training_steps import Timed
from transformers import PrinterCallback, TrainerCallback

from mcontriever.encoder import Encoder
from mcontriever.pretraining.pairs import TokenPairs


def their_trainer(
    encoder: Encoder,
    pairs: TokenPairs,
    options: argparse.Namespace,
    device: torch.device,
    scratch: Path,
    *,
    temperature: float,
    rate: float,
    bf16: bool,
) -> Timed:
    """A step is what lies between the ends of two, so that its data loading counts."""
    model = SentenceTransformer(str(encoder.save(scratch / f"model-{bf16}")), device=str(device))
    columns = {"anchor": pairs.queries.to_lists(), "positive": pairs.keys.to_lists()}
    data = Dataset.from_dict({name: encoder.tokenizer.batch_decode(rows) for name, rows in columns.items()})
    arguments = {
        "output_dir": str(scratch / "their-run"),
        "per_device_train_batch_size": options.rows,
        "learning_rate": rate,
        "bf16": bf16,
        "use_cpu": device.type == "cpu",
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "logging_strategy": "no",
    }

    def timed(steps: int) -> tuple[float, float]:
        """One step more than is counted: the first one sets up."""
        ends = Ends(device, time.process_time if options.busy else time.perf_counter)
        trainer = SentenceTransformerTrainer(
            model=model,
            args=SentenceTransformerTrainingArguments(**arguments, max_steps=steps + 1),
            train_dataset=data,
            loss=MultipleNegativesRankingLoss(model, scale=1 / temperature),
            callbacks=[ends],
        )
        trainer.remove_callback(PrinterCallback)
        tokens = count_tokens(trainer)
        trainer.train()
        return ends.at[-1] - ends.at[0], float(sum(tokens[1 : steps + 1]))

    return timed


class Ends(TrainerCallback):  # type: ignore[misc]
    """When each step ended."""

    def __init__(self, device: torch.device, clock: Callable[[], float]) -> None:
        self.at: list[float] = []
        self.device, self.clock = device, clock

    def on_step_end(self, *arguments: Any, **named: Any) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        self.at.append(self.clock())


def count_tokens(trainer: Any) -> list[int]:
    """The real tokens of every batch that the trainer will make, in a list that grows with them."""
    tokens: list[int] = []
    collator = type(trainer.data_collator)

    class Counting(collator):  # type: ignore[misc, valid-type]
        def __call__(self, features: Any) -> Any:
            batch = super().__call__(features)
            tokens.append(sum(int(value.sum()) for name, value in batch.items() if name.endswith("attention_mask")))
            return batch

    trainer.data_collator.__class__ = Counting
    return tokens
