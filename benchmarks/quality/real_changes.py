"""The experiment on a pretrained transformer, one change at a time: runs that differ from configs/real/ in a few keys.

    python benchmarks/quality/real_changes.py OUT [NAME...] --scores results.json

OUT is the output of configs/real/run.sh: base, tokens and dev are read. Without names all runs are made, in this order.
A run that is done is skipped, so that a list can be worked off in pieces. Where the processor has bf16, it is used.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from mcontriever.processor import trains_in_bf16

CONFIGS = Path(__file__).parents[2] / "configs" / "real"
LOW = "deepspeed.torch_autocast={enabled: auto, dtype: bfloat16, lower_precision_safe_modules: []}"
METRICS = ("ndcg_at_10", "recall_at_100")
SHORT = 100  # steps of MoCo. Others take as many as the same processor time allows (measured).
MOCO = ["objective.temperature=0.1", "objective.momentum=0.99"]
SLOW = [*MOCO, "objective.momentum=0.999"]
QUESTIONS = ["data.passage_length=96"]


def rate(value: float) -> list[str]:
    return [f"deepspeed.optimizer.params.lr={value}", f"deepspeed.scheduler.params.warmup_max_lr={value}"]


CROPS: dict[str, tuple[int, list[str]]] = {
    "moco": (SHORT, MOCO),
    "moco-s1": (SHORT, [*MOCO, "run.seed=1"]),
    "moco-s2": (SHORT, [*MOCO, "run.seed=2"]),
    "queue-480": (SHORT, [*MOCO, "objective.queue_size=480"]),
    "queue-16416": (SHORT, [*MOCO, "objective.queue_size=16416"]),
    "momentum-0.9": (SHORT, [*MOCO, "objective.momentum=0.9"]),
    "momentum-0.999": (SHORT, SLOW),
    "momentum-0.999-s1": (SHORT, [*SLOW, "run.seed=1"]),
    "momentum-0.999-s2": (SHORT, [*SLOW, "run.seed=2"]),
    "delete-20": (SHORT, [*MOCO, "data.augmentation={delete: 0.2}"]),
    "crops-5-50": (SHORT, [*MOCO, "data.view.min_ratio=0.05"]),
    "crops-30-70": (SHORT, [*MOCO, "data.view.min_ratio=0.3", "data.view.max_ratio=0.7"]),
    "window-64": (190, [*MOCO, "data.window=64"]),
    "window-256": (52, [*MOCO, "data.window=256"]),
    "relevance": (
        45,
        [
            "data.view.keys_per_query=4",
            "objective.kind=relevance",
            *MOCO,
        ],
    ),
    "dot": (SHORT, ["encoder.similarity=dot", "objective.temperature=1.0"]),
    "rate-3e-5": (SHORT, [*MOCO, *rate(3e-5)]),
    "rate-3e-4": (SHORT, [*MOCO, *rate(3e-4)]),
    "moco-400": (400, MOCO),
    "slow-400": (400, SLOW),
    "slow-400-s1": (400, [*SLOW, "run.seed=1"]),
    "slow-400-s2": (400, [*SLOW, "run.seed=2"]),
    "slow-200": (200, SLOW),
    "slow-4000": (4000, SLOW),
}
FEW = 60
ENGLISH: dict[str, tuple[int, list[str], str]] = {
    "english": (FEW, QUESTIONS, "moco"),
    "english-s1": (FEW, [*QUESTIONS, "run.seed=1"], "moco-s1"),
    "english-s2": (FEW, [*QUESTIONS, "run.seed=2"], "moco-s2"),
    "english-no-crops": (FEW, QUESTIONS, ""),
    "english-rate-1e-6": (FEW, [*QUESTIONS, *rate(1e-6)], "moco"),
    "english-rate-1e-5": (FEW, [*QUESTIONS, *rate(1e-5)], "moco"),
    "english-rate-2e-4": (FEW, [*QUESTIONS, *rate(2e-4)], "moco"),
    "english-rate-1e-3": (FEW, [*QUESTIONS, *rate(1e-3)], "moco"),
    "english-frozen-documents": (
        FEW,
        [*QUESTIONS, "encoder.own_query_encoder=true", "encoder.frozen_passages=true"],
        "moco",
    ),
    "english-frozen-3-layers": (FEW, [*QUESTIONS, "encoder.frozen_layers=3"], "moco"),
    "english-frozen-embeddings": (FEW, [*QUESTIONS, "encoder.frozen_embeddings=true"], "moco"),
    "english-moco-400": (120, QUESTIONS, "moco-400"),
    "english-slow-400": (120, QUESTIONS, "slow-400"),
    "english-slow-400-s1": (120, [*QUESTIONS, "run.seed=1"], "slow-400-s1"),
    "english-slow-400-s2": (120, [*QUESTIONS, "run.seed=2"], "slow-400-s2"),
    "english-slow-400-rate-1e-5": (120, [*QUESTIONS, *rate(1e-5)], "slow-400"),
    "english-slow-400-rate-2e-5": (120, [*QUESTIONS, *rate(2e-5)], "slow-400"),
    "english-slow-200": (FEW, QUESTIONS, "slow-200"),
    "english-momentum-0.999": (120, QUESTIONS, "momentum-0.999"),
    "english-momentum-0.999-rate-1e-5": (120, [*QUESTIONS, *rate(1e-5)], "momentum-0.999"),
    "english-slow-4000": (120, QUESTIONS, "slow-4000"),
    "english-slow-4000-rate-1e-5": (120, [*QUESTIONS, *rate(1e-5)], "slow-4000"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("names", nargs="*", choices=[*CROPS, *ENGLISH])
    parser.add_argument("--scores", type=Path, help="benchmark all of these runs, and write the table here")
    given = parser.parse_args()
    names = given.names or [*CROPS, *ENGLISH]
    for name in names:
        train(given.out, name)
    if given.scores:
        models = [given.out / "changes" / name / "model" for name in names]
        folder = given.out / "changes" / "scores"
        command("benchmark", "--model", *models, "--tasks", *sorted((given.out / "dev").iterdir()), "--output", folder)
        rows = [row for row in json.loads((folder / "scores.json").read_text()) if row["metric"] in METRICS]
        named = [{**row, "model": row["model"].removesuffix("/model")} for row in rows]
        given.scores.write_text(json.dumps(named, indent=0) + "\n")


def train(out: Path, name: str) -> None:
    folder = out / "changes" / name
    if (folder / "seconds").is_file():
        return
    if name in CROPS:
        steps, changes = CROPS[name]
        start, stage = out / "base", "crops"
        changes = [f"data.tokens={out / 'tokens'}", *changes]
    else:
        steps, changes, before = ENGLISH[name]
        if before:
            train(out, before)
        start, stage = out / "changes" / before / "model" if before else out / "base", "questions"
    settings = [f"encoder.name={start}", "evaluation.sets=[]", f"run.steps={steps}", f"run.save_every={steps}"]
    settings += [*changes, f"run.output={folder}", *([LOW] if trains_in_bf16() else [])]
    began = time.monotonic()
    command(
        "train", "--config", CONFIGS / f"{stage}.yaml", *(word for change in settings for word in ("--set", change))
    )
    for checkpoint in folder.glob("checkpoint*"):
        shutil.rmtree(checkpoint)
    (folder / "seconds").write_text(f"{time.monotonic() - began:.0f}\n")


def command(*words: object) -> None:
    subprocess.run(
        [sys.executable, "-m", "mcontriever", *map(str, words)], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )


if __name__ == "__main__":
    main()
