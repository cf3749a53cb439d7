"""`--engine ray` on a real cluster of several nodes on this machine; nodes are killed and added while it works."""

import hashlib
import os
import re
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mcontriever.errors import ConfigError, DataError, RunError
from mcontriever.ray_engine import RayCluster, Share, _as_here, _Here, is_ray, ray_cluster
from tests.conftest import RunCli
from tests.retrieval.small_corpora import mixed_documents, write_lines
from tests.small_recipes import contents, document, jsonl
from tests.small_recipes import write_lines as write_json_lines

pytestmark = pytest.mark.long(70)

NODE = {"object_store_memory": 80 << 20}
# A node that is gone is found within seconds; workers are no nicer than others, for the tests run on busy machines.
SETTINGS = {"health_check_period_ms": 1000, "worker_niceness": 0}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A head that runs no task, and one node of one core. Tests add nodes and kill them."""
    pytest.importorskip("ray", reason="ray is not installed")
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    head = {"num_cpus": 0, "include_dashboard": False, "_system_config": SETTINGS}
    cluster = Cluster(initialize_head=True, head_node_args={**head, **NODE})
    yield cluster
    cluster.shutdown()


def files(folder: Path) -> dict[str, str]:
    found = contents(folder).items()
    return {
        name: hashlib.sha256(data).hexdigest()
        for name, data in found
        if not Path(name).name.startswith((".lock", ".uploaded"))
    }


def wait_for_shards(store: Path, count: int, done: Any) -> None:
    while len(list(store.glob("shard-*.json"))) < count:
        assert not done.done(), done.result().stderr
        time.sleep(0.01)


def test_a_machine_killed_half_way_costs_its_shard_alone(
    cluster: Any, tmp_path: Path, tiny_encoder_dir: Path, run_cli: RunCli
) -> None:
    """All tasks are on the machine that dies, in int8, whose ranges the command learns for all."""
    corpus = write_lines(tmp_path / "c.jsonl", mixed_documents(1200))
    words = ["embed", corpus, "--model", tiny_encoder_dir, "--shard-documents", 50, "--precision", "int8"]
    first = cluster.add_node(num_cpus=1, **NODE)
    with ThreadPoolExecutor(1) as other:
        remote = other.submit(run_cli, *words, "--output", tmp_path / "ray", "--engine", f"ray://{cluster.address}")
        wait_for_shards(tmp_path / "ray", 2, remote)
        cluster.remove_node(first, allow_graceful=False)
        cluster.add_node(num_cpus=1, **NODE)
        assert not (tmp_path / "ray" / "manifest.json").exists()
        done = remote.result()
    assert done.returncode == 0, done.stderr
    assert "ray: 1 machines for tasks, 1 cores, 0 GPUs" in done.stderr
    assert "1,200 documents, " in done.stderr
    local = run_cli(*words, "--output", tmp_path / "local")
    assert local.returncode == 0, local.stderr
    assert files(tmp_path / "ray") == files(tmp_path / "local")
    again = run_cli(*words, "--output", tmp_path / "ray", "--engine", f"ray://{cluster.address}")
    assert "is complete already" in again.stderr


def test_prepare_on_two_machines_writes_the_local_engines_bytes(
    cluster: Any, tmp_path: Path, tiny_tokenizer_dir: Path, sentences: dict[str, list[str]], run_cli: RunCli
) -> None:
    """Relative paths mean what they mean to the command; duplicates are across shards."""
    cluster.add_node(num_cpus=1, **NODE)
    for shard in range(6):
        lines = [document(f"{shard if number % 4 else 0} {text}", "sw") for number, text in enumerate(sentences["sw"])]
        write_json_lines(tmp_path / f"{shard}.jsonl", lines)
    recipe = {"name": "ray", "licence": "none", "sources": [jsonl(Path("*.jsonl"))]}
    write_json_lines(tmp_path / "recipe.yaml", [recipe])
    words = ["prepare", "recipe.yaml", "--tokenizer", tiny_tokenizer_dir, "--workers", 2]
    upload = {"anew": True, "FSSPEC_LOCAL": '{"auto_mkdir": true}'}  # which fsspec reads when it is imported
    copy = ("--upload", f"local://{tmp_path / 'copy'}")
    done = run_cli(*words, "--output", "ray", "--engine", f"ray://{cluster.address}", *copy, cwd=tmp_path, **upload)
    assert done.returncode == 0, done.stderr
    assert files(tmp_path / "copy") == files(tmp_path / "ray")
    assert run_cli(*words, "--output", "local", cwd=tmp_path).returncode == 0
    assert files(tmp_path / "ray") == files(tmp_path / "local")


def test_what_happens_in_a_task_is_told(cluster: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if len(cluster.worker_nodes) == 0:
        cluster.add_node(num_cpus=1, **NODE)
    with ray_cluster(f"ray://{cluster.address}") as found:
        calls = [(tmp_path / str(number),) for number in range(2)]
        ended = [one for one in found.run(dies_once, calls, Share()) if one is not None]
        assert sorted(ended) == [(number, number) for number in range(2)]
        with pytest.raises(DataError, match="a damaged line") as refused:
            list(found.run(refuses, [()], Share()))
        assert (refused.value.where, refused.value.fix) == ("here", "mend it")
        with pytest.raises(RunError, match=r"a task of Ray failed: ZeroDivisionError"):
            list(found.run(divmod, [(1, 0)], Share()))
    assert capsys.readouterr().out == ""


def dies_once(mark: Path) -> int:
    if not mark.exists():
        mark.touch()
        os._exit(1)
    return int(mark.name)


def refuses() -> None:
    raise DataError("a damaged line", where="here", fix="mend it")


def test_a_task_takes_a_fair_part_of_a_machine() -> None:
    cluster = RayCluster(Nodes([{"CPU": 16, "GPU": 4}, {"CPU": 24, "GPU": 4}, {"CPU": 8}, {}]))
    assert cluster.share(1, gpus=True) == Share(4, 1)
    assert cluster.room(Share(4, 1)) == 8
    assert cluster.share(2, gpus=False) == Share(4, 0)
    assert cluster.room(Share(4)) == 4 + 6 + 2
    assert cluster.has_gpus()


class Nodes:
    """What Ray says of a cluster."""

    def __init__(self, resources: list[dict[str, float]]) -> None:
        self.resources = resources

    def nodes(self) -> list[dict[str, Any]]:
        dead = {"Alive": False, "Resources": {"CPU": 64, "GPU": 8}}
        return [dead, *({"Alive": True, "Resources": has} for has in self.resources)]


def test_another_version_on_a_machine_is_refused() -> None:
    with pytest.raises(RunError, match=r"has mcontriever \S+, this one 0\.0\.1"):
        _as_here(_Here("0.0.1", "."), len, "")


@pytest.mark.parametrize("engine", ["spark", "ray:", "ray://", "ray://host", "RAY"])
def test_an_unknown_engine_is_refused(engine: str) -> None:
    with pytest.raises(ConfigError, match=f"--engine {re.escape(engine)} is not known"):
        is_ray(engine)


def test_an_address_where_nothing_answers_is_one_error(tmp_path: Path, cli: RunCli) -> None:
    pytest.importorskip("ray", reason="ray is not installed")
    corpus = write_lines(tmp_path / "c.jsonl", mixed_documents(3))
    words = ["embed", corpus, "--model", "bm25", "--output", tmp_path / "s", "--engine", "ray://127.0.0.1:9"]
    done = cli(*words)
    assert done.returncode == 2
    assert "error: 127.0.0.1 cannot be reached: " in done.stderr
    assert "as `ray start --head` printed it" in done.stderr
    assert not (tmp_path / "s").exists()


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match="needs the package ray") as refused, ray_cluster("ray"):
        pass
    assert refused.value.fix == "pip install 'mcontriever[ray]'"
