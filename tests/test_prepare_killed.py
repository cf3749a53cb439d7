"""Stopped at random moments in every way and run again: the bytes of an undisturbed run, and no work done twice."""

import hashlib
import json
import os
import random
import re
import signal
import time
from multiprocessing import resource_tracker
from pathlib import Path

import psutil
import pytest

from mcontriever import prepare
from mcontriever.config import load_recipe
from tests.warm_processes import CONTEXT, run_command

SHARDS = 24
DOCUMENTS = 60


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


class Run:
    """`mcontriever prepare` in a process of its own, forked from a warm one; its workers are started anew."""

    def __init__(self, recipe: Path, output: Path, tokenizer: Path) -> None:
        self.errors = output.with_name(f"{output.name}.stderr")
        words = ["prepare", recipe, "--output", output, "--tokenizer", tokenizer, "--workers", 2]
        outputs = [str(output.with_name(f"{output.name}.stdout")), str(self.errors)]
        self.errors.unlink(missing_ok=True)
        self.process = CONTEXT.Process(target=prepare_alone, args=([str(word) for word in words], outputs))
        self.process.start()

    def end(self) -> tuple[int | None, str]:
        """Its exit code, and what it said."""
        self.process.join(120)
        return self.process.exitcode, self.errors.read_text()


def prepare_alone(words: list[str], outputs: list[str]) -> None:
    """With a tracker of semaphores of its own, as a command has it: that of the tests would tell of them at the end."""
    vars(resource_tracker._resource_tracker).update(_fd=None, _pid=None)  # type: ignore[attr-defined]
    run_command(words, outputs)


def done_shards(output: Path) -> set[str]:
    return {path.name for kind in ("staging", "shards") for path in (output / kind).glob("[0-9]*")}


def checksums(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def stop(run: Run, output: Path, shards: int, how: str, pause: float) -> tuple[int | None, str]:
    """Once so many shards are done, kill a worker, or stop the run by a signal; no worker may outlive it."""
    while len(done_shards(output)) < shards:
        assert run.process.exitcode is None, run.end()
        time.sleep(0.002)
    time.sleep(pause)
    assert run.process.pid
    children = psutil.Process(run.process.pid).children(recursive=True)
    workers = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
    if how == "worker":
        workers[0].kill()
    else:
        os.kill(run.process.pid, signal.Signals[how])
    code, printed = run.end()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive
    assert "Traceback" not in printed
    return code, printed


@pytest.mark.long(12)
def test_disturbed_in_every_way_the_result_is_the_same(tmp_path: Path, recipe: Path, tiny_tokenizer_dir: Path) -> None:
    undisturbed = tmp_path / "undisturbed"
    prepare.run(load_recipe(str(recipe)), undisturbed, str(tiny_tokenizer_dir), workers=1)
    disturbed = tmp_path / "disturbed"
    drawn = random.Random(os.environ.get("KILL_SEED", "7"))
    done_before = 0
    ways = {
        "worker": (2, "a worker process was killed"),
        "SIGTERM": (130, "interrupted; run the same command again"),
        "SIGKILL": (-9, ""),
    }
    for number, (how, (code, message)) in enumerate(ways.items(), start=1):
        run = Run(recipe, disturbed, tiny_tokenizer_dir)
        aim = drawn.randint(done_before + 1, SHARDS * number // (len(ways) + 1))  # never the last ones
        ended, printed = stop(run, disturbed, aim, how, pause=drawn.random() * 0.05)
        assert ended == code, f"{how}: {printed}"
        assert message in printed
        assert not (disturbed / "manifest.json").exists()
        done_before = len(done_shards(disturbed))
    code, printed = Run(recipe, disturbed, tiny_tokenizer_dir).end()
    assert code == 0, printed
    skipped = re.search(r"(\d+) of 24 shards were done before", printed)
    assert skipped
    assert int(skipped[1]) == done_before
    assert checksums(disturbed) == checksums(undisturbed)
    assert json.loads((disturbed / "report.json").read_text())["total"]["dropped"]["duplicate"] > SHARDS
