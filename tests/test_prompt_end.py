"""SIGTERM ends every verb as Ctrl-C does: the same advice, the same exit code, and soon, whatever it is doing."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest
import yaml

from mcontriever.disk import FolderLock
from mcontriever.prompt_end import ADVICE, INTERRUPTED
from tests.retrieval.small_corpora import make_store, mixed_documents
from tests.sentences_to_mine import write_smallest_mining
from tests.two_ranks import free_port
from tests.warm_processes import CONTEXT, run_command

BEGINNING = """
import ctypes, signal, threading, time
from mcontriever import prompt_end

signal.signal(signal.SIGINT, signal.default_int_handler)  # also where tests run in the background
prompt_end.GRACE_SECONDS = 0.3
prompt_end.end_promptly()
"""
DEAF = {
    "the exception is lost in a callback": """
class Callback:
    def __del__(self):
        print("ready", flush=True)
        time.sleep(600)

Callback()
time.sleep(600)
""",
    "a library waits": """
lock = ctypes.create_string_buffer(64)
ctypes.CDLL(None).pthread_mutex_lock(lock)
print("ready", flush=True)
ctypes.CDLL(None).pthread_mutex_lock(lock)
""",
    "a thread keeps the process from ending": """
threading.Thread(target=threading.Event().wait).start()
print("ready", flush=True)
time.sleep(600)
""",
}
SAVING = """
with prompt_end.time_to_save():
    try:
        print("ready", flush=True)
        time.sleep(600)
    except KeyboardInterrupt:
        time.sleep(3)
        print("saved", flush=True)
"""
FORKED = """
import os, signal
child = os.fork()
if child == 0:
    prompt_end.end_promptly()
    print("ready", flush=True)
    time.sleep(600)
else:
    os.waitpid(child, 0)
    time.sleep(2)
    print("not told", flush=True)
"""


def begun(program: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", BEGINNING + program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_cannot_hear_a_signal_ends(number: signal.Signals) -> None:
    processes = {name: begun(program) for name, program in DEAF.items()}
    for process in processes.values():
        process.send_signal(number)
    for name, process in processes.items():
        _, printed = process.communicate(timeout=120)
        assert process.returncode == INTERRUPTED, f"{name}: {printed}"
        assert ADVICE in printed, name


def test_what_saves_has_the_time() -> None:
    process = begun(SAVING)
    process.send_signal(signal.SIGTERM)
    printed, _ = process.communicate(timeout=120)
    assert printed == "saved\n"
    assert process.returncode == 0


def test_a_forked_process_does_not_end_its_parent() -> None:
    process = begun(FORKED)
    (child,) = map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split())
    os.kill(child, signal.SIGTERM)
    printed, _ = process.communicate(timeout=120)
    assert printed == "not told\n"


Start = Callable[..., ForkServerProcess]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """`mcontriever WORDS`, forked from a warm process, which prints to files."""

    def start(*words: object, **environment: str) -> ForkServerProcess:
        outputs = [str(tmp_path / name) for name in ("stdout", "stderr")]
        process = CONTEXT.Process(target=_run, args=([str(word) for word in words], outputs, environment))
        process.start()
        return process

    return start


def _run(words: list[str], outputs: list[str], environment: dict[str, str]) -> None:
    os.environ.update(environment)
    run_command(words, outputs)


def told_to_end(process: ForkServerProcess, tmp_path: Path) -> None:
    assert process.pid is not None
    os.kill(process.pid, signal.SIGTERM)
    process.join(120)
    printed = (tmp_path / "stderr").read_text()
    assert process.exitcode == INTERRUPTED, printed
    assert ADVICE in printed
    assert "Traceback" not in printed


def until(process: ForkServerProcess, condition: Callable[[], bool], tmp_path: Path) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert process.is_alive(), (tmp_path / "stderr").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def waits_for_a_lock(process: ForkServerProcess) -> bool:
    """It, or a command that it has started."""
    try:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    except FileNotFoundError:
        return False  # it has ended
    lines = Path("/proc/locks").read_text().splitlines()
    return any("->" in line and line.split()[5] in (str(process.pid), *children) for line in lines)


@pytest.fixture
def verbs(tmp_path: Path) -> dict[str, tuple[list[object], Path, str]]:
    """Each verb's command, and the lock that it waits for if another process holds it."""
    store, corpus = tmp_path / "store", tmp_path / "store.jsonl"
    make_store(store, mixed_documents(12), None)
    searcher = {"kind": "bm25", "negatives": 1, "last_rank": 2}
    mining = write_smallest_mining(tmp_path, corpus=str(store), searchers=[searcher], output=str(tmp_path / "mined"))
    embed: list[object] = ["embed", str(corpus), "--model", "bm25", "--output", str(tmp_path / "out")]
    (tmp_path / "plan.yaml").write_text(json.dumps({"output": str(tmp_path / "plan"), "stages": [{"command": embed}]}))
    return {
        "embed": (embed, tmp_path / "out", ".lock-plan"),
        "index": (["index", store, "--kind", "bm25"], store / "indexes", ".lock"),
        "mine": (["mine", "--config", mining], store / "indexes", ".lock"),
        "run": (["run", tmp_path / "plan.yaml"], tmp_path / "out", ".lock-plan"),
    }


@pytest.mark.parametrize("verb", ["embed", "index", "mine", "run"])
def test_sigterm(start: Start, tmp_path: Path, verbs: dict[str, tuple[list[object], Path, str]], verb: str) -> None:
    words, folder, lock = verbs[verb]
    with FolderLock(folder, name=lock, wait=True):
        process = start(*words)
        until(process, lambda: waits_for_a_lock(process), tmp_path)
        told_to_end(process, tmp_path)


def test_sigterm_while_a_rank_waits_for_another(start: Start, tmp_path: Path, tiny_encoder_dir: Path) -> None:
    """torch's rendezvous waits for half an hour, and hears nothing."""
    config = {
        "stage": "pretrain",
        "encoder": {"name": str(tiny_encoder_dir)},
        "data": {"tokens": str(tmp_path), "window": 48, "view": {"kind": "crops"}},
        "objective": {"kind": "moco", "temperature": 0.1, "queue_size": 64, "momentum": 0.9},
        "run": {"output": str(tmp_path / "run"), "steps": 1},
        "deepspeed": {"train_batch_size": 8},
    }
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(config))
    port = free_port()
    place = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "LOCAL_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    process = start("train", "--config", tmp_path / "train.yaml", MASTER_PORT=str(port), **place)

    def listens() -> bool:
        tables = (Path(f"/proc/net/{name}").read_text() for name in ("tcp", "tcp6"))
        return any(f":{port:04X} " in table for table in tables)

    until(process, listens, tmp_path)
    told_to_end(process, tmp_path)
