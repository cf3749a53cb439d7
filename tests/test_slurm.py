"""`srun`, as the guide shows it, by a stand-in that starts two tasks with Slurm's variables: one whole store."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, RunCli
from tests.retrieval.small_corpora import mixed_documents, write_lines
from tests.small_recipes import contents

# The options that the guide uses, then the command; a task is a process, on a machine of its own.
SRUN = """#!/bin/sh
tasks=1
while true; do
  case "$1" in
    --ntasks) tasks=$2; shift 2 ;;
    --ntasks-per-node|--cpus-per-task) shift 2 ;;
    *) break ;;
  esac
done
export SLURM_NTASKS="$tasks" SLURM_STEP_NUM_TASKS="$tasks" SLURM_STEP_TASKS_PER_NODE="1(x$tasks)" SLURM_LOCALID=0
started=""
rank=0
while [ "$rank" -lt "$tasks" ]; do
  SLURM_PROCID="$rank" SLURM_NODEID="$rank" "$@" &
  started="$started $!"
  rank=$((rank + 1))
done
worst=0
for process in $started; do wait "$process" || worst=$?; done
exit "$worst"
"""


@pytest.fixture
def path_with_srun(tmp_path: Path) -> str:
    """With a mcontriever that is this one."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "srun").write_text(SRUN)
    (folder / "mcontriever").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m mcontriever "$@"\n')
    for program in folder.iterdir():
        program.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def test_two_tasks_of_srun_make_the_store_of_one_process(tmp_path: Path, path_with_srun: str, run_cli: RunCli) -> None:
    guide = (REPOSITORY / "docs" / "guides" / "many_machines.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^srun .*mcontriever embed .*$", guide, re.M)
    words = shlex.split(line)
    for option, value in (("--ntasks", "2"), ("--model", "bm25"), ("--shard-documents", "7")):
        words[words.index(option) + 1] = value
    corpus, output = words[words.index("embed") + 1], words[words.index("--output") + 1]
    write_lines(tmp_path / corpus, mixed_documents(60))
    launched = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")}
    environment = {**launched, "PATH": path_with_srun, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "60 documents, 9 shards" in done.stderr
    alone = run_cli(
        *words[words.index("embed") :][:2], *words[words.index("--model") :], "--output", "alone", cwd=tmp_path
    )
    assert alone.returncode == 0, alone.stderr
    assert store_files(tmp_path / output) == store_files(tmp_path / "alone")


def store_files(folder: Path) -> dict[str, bytes]:
    return {name: data for name, data in contents(folder).items() if not name.startswith(".lock")}
