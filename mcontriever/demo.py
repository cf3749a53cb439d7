"""The whole road on the bundled atlas, in a few minutes on a laptop; every step is a command that a user would type.

    mcontriever demo --output runs/demo

Interrupted and run again, it goes on: each command knows what it has done.
"""

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from mcontriever.errors import RunError
from mcontriever.shipped import ATLAS, shipped

VOCABULARY = 4000
QUESTIONS = {
    "Arabic": "كيف تخبر النحلة رفيقاتها بمكان الأزهار؟",
    "Swahili": "Mwamba mkubwa wa matumbawe wa Australia una urefu gani?",
}


def run(output: str) -> None:
    folder = Path(output)
    tokenizer, tokens, trained, store = (folder / name for name in ("tokenizer", "tokens", "run", "store"))
    model = trained / "model"
    print(
        "The atlas: 64 topics in English, Arabic, Swahili, French, Hindi and Chinese. Half of them are for training.\n"
    )
    if not tokenizer.exists():
        _step("tokenizer", "atlas", "--output", tokenizer, "--vocabulary", VOCABULARY)
    _step("prepare", "atlas", "--output", tokens, "--tokenizer", tokenizer)
    _train(tokenizer, tokens, trained)
    _step("embed", ATLAS / "evaluation", "--model", model, "--output", store)
    for language, question in QUESTIONS.items():
        print(f"A question in {language}:")
        _step("search", store, question, "--mode", "hybrid", "-k", 3)
    _step("benchmark", "--model", model, "--model", "bm25", "--suite", "atlas", "--output", folder / "scores")
    print(f"The table: {folder / 'scores' / 'scores.md'}    The chart: {folder / 'scores' / 'scores.png'}")


def _train(tokenizer: Path, tokens: Path, output: Path) -> None:
    """Two processes on a CPU, or one for each GPU, exactly as on a cluster."""
    settings = {
        "encoder.tokenizer": tokenizer,
        "data.tokens": tokens,
        "evaluation.sets": f"[{ATLAS / 'evaluation'}]",
        "run.output": output,
    }
    overrides = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    config = shipped("configs/pretrain/tiny_cpu.yaml")
    launcher = ["deepspeed", "--quiet", "--num_gpus", str(_processes()), str(Path(__file__).parent / "train.py")]
    _command([*launcher, "--config", str(config), *overrides])


def _processes() -> int:
    import torch

    return torch.cuda.device_count() or 2


def _step(verb: str, *arguments: object) -> None:
    _command(["mcontriever", verb, *map(str, arguments)])


def _command(words: Sequence[str]) -> None:
    """Show the command as one would type it, run it with this installation's programs, stop where it stops."""
    print(f"$ {shlex.join(words)}", flush=True)
    programs = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": os.pathsep.join([programs, os.environ.get("PATH", "")])}
    done = subprocess.run(words, env=environment, check=False)
    if done.returncode:
        raise RunError(f"`mcontriever {words[1]}` ended with exit code {done.returncode}", fix="see its message above")
    print(flush=True)
