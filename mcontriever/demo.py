"""The main job on the bundled atlas, in a few minutes on a laptop; every step is a command that a user would type.

    mcontriever demo --output runs/demo

mini embeds the atlas and answers an Arabic and a Swahili question, is trained further on raw text of the other half on
two processes, and is measured before and after. After an interruption the same command resumes it.
"""

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from mcontriever.child_processes import run_command
from mcontriever.errors import RunError
from mcontriever.shipped import ATLAS, DEFAULT_MODEL, shipped

INTRODUCTION = f"""\
The atlas: 64 topics in English, Arabic, Swahili, French, Hindi and Chinese. {DEFAULT_MODEL}, a transformer that comes
with the package, searches one half, is trained further on the text of the other half, and is measured again.
"""
ARABIC = "أي بلد استضاف أول بطولة لكأس العالم لكرة القدم؟"
SWAHILI = "Newton alitumia nini badala ya lenzi katika darubini aliyoiunda mwaka 1668?"
MEANINGS = {
    ARABIC: "In Arabic: which country was host to the first football World Cup? Only an English passage tells.",
    SWAHILI: "In Swahili: what did Newton use instead of a lens? Passages in six languages tell.",
}


def run(output: str) -> None:
    folder = Path(output)
    tokens, trained, store, scores = (folder / name for name in ("tokens", "run", "store", "scores"))
    continued = folder / f"{DEFAULT_MODEL}-atlas"
    corpus = _as_typed(ATLAS / "evaluation")
    print(INTRODUCTION)
    _step("embed", corpus, "--output", store)
    for question, meaning in MEANINGS.items():
        print(meaning)
        _step("search", store, question, "-k", 3)
    print("More training, on raw text alone:")
    _step("prepare", "atlas", "--output", tokens, "--tokenizer", DEFAULT_MODEL)
    _train(tokens, trained)
    _step("export", trained, "--output", continued, "--overwrite")
    print("Before and after, beside the faster nano, and BM25 over words and over subwords:")
    models = (DEFAULT_MODEL, continued, "nano", "bm25", f"bm25:subwords={DEFAULT_MODEL}")
    _step("benchmark", "--model", *models, "--suite", "atlas", "--output", scores)
    print(f"The table: {scores / 'scores.md'}    The chart: {scores / 'scores.png'}")
    print(f"To search on a page: mcontriever serve {shlex.quote(str(store))}    then open http://127.0.0.1:8080")


def _train(tokens: Path, output: Path) -> None:
    """Two processes on a CPU, or one for each GPU, exactly as on a cluster."""
    settings = {"data.tokens": tokens, "run.output": output}
    overrides = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    config = _as_typed(shipped("configs/pretrain/continue_mini_cpu.yaml"))
    script = _as_typed(Path(__file__).resolve().parent / "train.py")
    _command(["deepspeed", "--quiet", "--num_gpus", str(_processes()), script, "--config", config, *overrides])


def _processes() -> int:
    import torch

    return torch.cuda.device_count() or 2


def _as_typed(path: Path) -> str:
    """As short as a user would write it here."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _step(verb: str, *arguments: object) -> None:
    _command(["mcontriever", verb, *map(str, arguments)])


def _command(words: Sequence[str]) -> None:
    """Show the command as a user would type it, run it with this installation's programs, stop if it fails."""
    print(f"$ {shlex.join(words)}", flush=True)
    programs = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": os.pathsep.join([programs, os.environ.get("PATH", "")])}
    code = run_command(words, environment)
    if code:
        raise RunError(f"`{' '.join(words[:2])}` ended with exit code {code}", fix="see its message above")
    print(flush=True)
