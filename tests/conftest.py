"""Tiny real things that every test may use: texts in five scripts, a 220-piece tokenizer, a two-layer XLM-R."""

import os
import signal

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HAYSTACK_TELEMETRY_ENABLED", "false")

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.warm_processes import run_warm

REPOSITORY = Path(__file__).resolve().parents[1]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # so a script starts what runs behind it, and commands inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


SENTENCES = {
    "en": [
        "The river rises in the hills and reaches the sea after a journey of nine days.",
        "Bakers mix flour, water and salt before the dough is left to rest in a warm room.",
        "A small telescope shows four bright moons beside the largest planet.",
        "Rain falls on the northern slopes from June to September every year.",
    ],
    "ar": [
        "ينبع النهر من التلال ويصل إلى البحر بعد رحلة طويلة.",
        "يخلط الخباز الدقيق والماء والملح قبل أن يترك العجين ليرتاح.",
        "يظهر المنظار الصغير أربعة أقمار لامعة بجانب الكوكب الكبير.",
        "يسقط المطر على السفوح الشمالية كل عام.",
    ],
    "sw": [
        "Mto unaanzia vilimani na kufika baharini baada ya safari ya siku tisa.",
        "Mwokaji huchanganya unga, maji na chumvi kabla ya kuacha kinyunya kipumzike.",
        "Darubini ndogo huonyesha miezi minne inayong'aa kando ya sayari kubwa.",
        "Mvua hunyesha kwenye miteremko ya kaskazini kila mwaka.",
    ],
    "hi": [
        "नदी पहाड़ियों से निकलती है और लंबी यात्रा के बाद समुद्र तक पहुँचती है।",
        "रोटी बनाने वाला आटा, पानी और नमक मिलाकर उसे आराम करने देता है।",
        "छोटी दूरबीन बड़े ग्रह के पास चार चमकीले चंद्रमा दिखाती है।",
        "उत्तरी ढलानों पर हर साल वर्षा होती है।",
    ],
    "zh": [
        "这条河发源于山丘,经过漫长的旅程流入大海。",
        "面包师把面粉、水和盐混合,然后让面团静置。",
        "小望远镜能看到大行星旁边的四颗明亮的卫星。",
        "每年雨水都落在北面的山坡上。",
    ],
}

COMMAND_SECONDS = 600  # far more than any takes, on a machine that is busy with other things
RunCli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def sentences() -> dict[str, list[str]]:
    return SENTENCES


@pytest.fixture(scope="session")
def tiny_tokenizer_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer of 220 pieces in XLM-R's layout: as many as twenty sentences give."""
    from mcontriever.tokenizer import train_tokenizer

    folder = tmp_path_factory.mktemp("tokenizer") / "tiny"
    train_tokenizer(SENTENCES, folder, vocabulary=220)
    return folder


@pytest.fixture(scope="session")
def tokenizer(tiny_tokenizer_dir: Path) -> Any:
    from mcontriever.tokens import load_tokenizer

    return load_tokenizer(str(tiny_tokenizer_dir))


@pytest.fixture(scope="session")
def tiny_encoder_dir(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer_dir: Path) -> Path:
    """An exported two-layer XLM-R with random weights."""
    from mcontriever.encoder import Encoder
    from mcontriever.tokens import load_tokenizer

    architecture = {
        "model_type": "xlm-roberta",
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
    }
    folder = tmp_path_factory.mktemp("encoder") / "tiny"
    tokenizer = load_tokenizer(str(tiny_tokenizer_dir))
    Encoder.from_random(architecture, tokenizer, seed=7, max_length=128).save(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_tokens_dir(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer_dir: Path) -> Path:
    """The atlas's training half as token shards of the tiny tokenizer."""
    from mcontriever import prepare
    from mcontriever.config import load_recipe

    folder = tmp_path_factory.mktemp("tokens") / "atlas"
    prepare.run(load_recipe("atlas"), folder, str(tiny_tokenizer_dir), workers=1)
    return folder


@pytest.fixture(autouse=True)
def _log_as_imported() -> None:
    """A command that ran in this process took the log for itself, and caplog would see its messages twice."""
    from mcontriever.progress import log

    log.handlers[:], log.propagate = [], True


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a benchmark tells libraries through the environment is taken back after each test."""
    for name in ("HF_HUB_OFFLINE", "HF_HUB_CACHE", "HF_DATASETS_DISABLE_PROGRESS_BARS", "TRANSFORMERS_VERBOSITY"):
        present = name in os.environ
        monkeypatch.setenv(name, os.environ.get(name, ""))
        if not present:
            monkeypatch.delenv(name)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Iterator[RunCli]:
    """Run `mcontriever ...` in this process, which costs no start of another."""
    from mcontriever import progress
    from mcontriever.cli import main

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        return subprocess.CompletedProcess(arguments, int(end.value.code or 0), *capsys.readouterr())

    before = progress.log.handlers[:], progress.log.propagate, progress.log.level, dict(progress._state)
    yield run
    progress.log.handlers[:], progress.log.propagate = before[:2]
    progress.log.setLevel(before[2])
    progress._state.update(before[3])


@pytest.fixture(scope="session")
def run_cli() -> RunCli:
    """Run `mcontriever ...` in a process of its own, forked from a warm one or `anew` (slow)."""

    def run(
        *arguments: object,
        cwd: Path | None = None,
        anew: bool = False,
        largest_file: int | None = None,
        **environment: str,
    ) -> subprocess.CompletedProcess[str]:
        words = [str(argument) for argument in arguments]
        if not anew:
            return run_warm(words, cwd or REPOSITORY, environment, COMMAND_SECONDS, largest_file)
        return subprocess.run(
            [sys.executable, "-m", "mcontriever", *words],
            capture_output=True,
            text=True,
            cwd=cwd or REPOSITORY,
            env={**os.environ, **environment},
            timeout=COMMAND_SECONDS,
            check=False,
        )

    return run
