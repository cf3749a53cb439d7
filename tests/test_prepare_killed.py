"""Kill -9 at random moments, run again: the same bytes as a run that nobody disturbed, and no work done twice."""

import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from mcontriever.config import load_recipe

SHARDS = 24
DOCUMENTS = 120
KILLS = 3


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory, sentences: dict[str, list[str]]) -> Path:
    """Shards in two languages each, with duplicates within and across them."""
    folder = tmp_path_factory.mktemp("sources")
    drawn = random.Random(4)
    for shard in range(SHARDS):
        lines = []
        for number in range(DOCUMENTS):
            language = drawn.choice(["sw", "ar", "hi"])
            chosen = drawn.choices(sentences[language], k=40)
            text = f"{drawn.randrange(2000)} " + " ".join(chosen) if number % 10 else " ".join(sentences[language])
            lines.append(json.dumps({"text": text, "language": language}))
        (folder / f"{shard:02}.jsonl").write_text("\n".join(lines))
    source = {"reader": "jsonl", "paths": [f"{folder}/*.jsonl"], "languages": ["sw", "ar", "hi"]}
    path = folder / "recipe.yaml"
    path.write_text(json.dumps({"name": "killed", "licence": "none", "sources": [source]}))
    return path


def start(recipe: Path, output: Path, tokenizer: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "mcontriever", "prepare", recipe, "--output", output, "--tokenizer", tokenizer]
    return subprocess.Popen([*map(str, command), "--workers", "2"], stderr=subprocess.PIPE, text=True)


def done_shards(output: Path) -> set[str]:
    return {path.name for kind in ("staging", "shards") for path in (output / kind).glob("[0-9]*")}


def checksums(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def kill_after(process: subprocess.Popen[str], output: Path, shards: int, pause: float) -> None:
    """Kill -9 the run, not its workers, once so many shards are done; the workers must follow it by themselves."""
    while len(done_shards(output)) < shards:
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        time.sleep(0.002)
    time.sleep(pause)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert not alive


def test_killed_three_times_the_result_is_the_same(
    tmp_path: Path, recipe: Path, tiny_tokenizer_dir: Path, sentences: dict[str, list[str]]
) -> None:
    from mcontriever import prepare

    undisturbed = tmp_path / "undisturbed"
    prepare.run(load_recipe(str(recipe)), undisturbed, str(tiny_tokenizer_dir), workers=1)
    disturbed = tmp_path / "disturbed"
    drawn = random.Random(os.environ.get("KILL_SEED", "7"))
    done_at_kill = 0
    for number in range(KILLS):
        process = start(recipe, disturbed, tiny_tokenizer_dir)
        aim = drawn.randint(done_at_kill + 1, SHARDS * (number + 1) // KILLS)
        kill_after(process, disturbed, aim, pause=drawn.random() * 0.05)
        assert not (disturbed / "manifest.json").exists()
        done_at_kill = len(done_shards(disturbed))
    process = start(recipe, disturbed, tiny_tokenizer_dir)
    _, printed = process.communicate(timeout=120)
    assert process.returncode == 0, printed
    skipped = re.search(r"(\d+) of 24 shards were done before", printed)
    assert skipped
    assert int(skipped[1]) == done_at_kill
    assert checksums(disturbed) == checksums(undisturbed)
    assert json.loads((disturbed / "report.json").read_text())["total"]["dropped"]["duplicate"] > SHARDS


def test_a_worker_that_dies_is_one_message(tmp_path: Path, recipe: Path, tiny_tokenizer_dir: Path) -> None:
    output = tmp_path / "out"
    process = start(recipe, output, tiny_tokenizer_dir)
    while not done_shards(output):
        assert process.poll() is None
        time.sleep(0.002)
    workers = [child for child in psutil.Process(process.pid).children() if "spawn_main" in " ".join(child.cmdline())]
    workers[0].kill()
    _, printed = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "a worker process was killed" in printed
    assert "Traceback" not in printed
    assert done_shards(output)
