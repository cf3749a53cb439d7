"""The rows of finetuning_gains.py: each trains one model, with mcontriever's own commands."""

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from gains_data import write_lines
from gains_work import Config, Work, finetuned, mining, named, questions, schedule

DOC_T5_QUERY = "docT5query"
PRESETS = Path(__file__).parents[2] / "configs" / "generate"


def mined(work: Work) -> None:
    if not (work.folder / "mined").is_dir():
        values = {"examples": questions(work), "model": work.encoder, "output": str(work.folder / "mined")}
        work.run("mine", "--config", work.write("mine", values | mining(work)))


def start(work: Work, rate: float, seed: int) -> Path:
    return Path(work.encoder)


def in_batch(work: Work, rate: float, seed: int, row: str = "in-batch", examples: Config | None = None) -> Path:
    row = named(row, seed)
    data = {"examples": examples or questions(work), "negatives": 0, "hard_ratio": 0.0}
    return work.trained(
        row, finetuned(work, row, rate, seed, data=data, deepspeed=schedule(work, rate, work.kind.passages))
    )


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
    train = finetuned(work, row, rate, seed, data={"refresh_every": work.kind.steps // 2})
    train["run"]["save_every"] = work.kind.steps // 2
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


def written(work: Work, preset: str, corpus: Path) -> Path:
    """What the writer writes for a corpus, by a preset of configs/generate/."""
    output = work.folder / "written" / f"{preset}-{corpus.parent.name}"
    values = {"corpus": corpus, "model": work.writer, "output": output, "device": "cpu"}
    changes = [word for name, value in values.items() for word in ("--set", f"{name}={value}")]
    work.run("generate", "--config", PRESETS / f"{preset}.yaml", *changes)
    return output


def genq(of: str) -> Callable[[Work, float, int], Path]:
    """In-batch training on written questions: those of the learned tales, or of the very tales that are asked about."""

    def train(work: Work, rate: float, seed: int) -> Path:
        output = written(work, "queries", work.folder / of / "corpus.jsonl")
        examples = {"format": "dpr", "paths": [str(output / "generated-*.jsonl")]}
        return in_batch(work, rate, seed, f"genq-{of}", examples)

    return train


def bm25(work: Work, rate: float, seed: int) -> Path:
    return Path("bm25")


def expanded(work: Work, task: str) -> Path:
    """The same task with the questions that its documents answer behind them (docT5query)."""
    source, target = work.folder / task, work.folder / "expanded" / task
    if not target.is_dir():
        output = written(work, "expanded_documents", source / "corpus.jsonl")
        shutil.copytree(source, target)
        parts = [path.read_text(encoding="utf-8") for path in sorted(output.glob("expanded-*.jsonl"))]
        records = [json.loads(line) for line in "".join(parts).splitlines()]
        write_lines(target / "corpus.jsonl", ({**record, "_id": record["id"]} for record in records))
    return target


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
            "data": {"tokens": str(tokens), "samples_together": work.kind.passages, "window": 256, "view": view},
            "objective": {"temperature": 0.05, "queue_size": 1024, "momentum": 0.99} | objective,
            "deepspeed": schedule(work, rate, work.kind.passages),
        }
        return work.trained(row, values)

    return of


ROWS: dict[str, Callable[[Work, float, int], Path]] = {
    "start": start,
    "in-batch": in_batch,
    "genq": genq("learned"),
    "genq, asked tales": genq("tales-odd"),
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
    "bm25": bm25,
    DOC_T5_QUERY: bm25,  # over expanded documents
}
WRITTEN = ("genq", "genq, asked tales", DOC_T5_QUERY)
