"""Several processes that write one store: the ranks of one launch share it, strangers are refused; kills."""

import contextlib
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mcontriever.encoder import Encoder
from mcontriever.errors import ConfigError, StoreError
from mcontriever.retrieval.embedding.embedding_run import embed
from mcontriever.retrieval.embedding.launching import Place
from mcontriever.retrieval.embedding.request import EmbeddingRequest
from mcontriever.retrieval.store import store_runs
from mcontriever.retrieval.store.embedding_store import EmbeddingStore
from mcontriever.retrieval.store.store_check import find_damage
from tests.retrieval.small_corpora import all_ids, all_vectors, mixed_documents, write_lines

DOCUMENTS = mixed_documents(60)


def embed_in_process(
    corpus: str, folder: Path, encoder: Encoder, rank: int = 0, world: int = 1, **options: Any
) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_RANK": str(rank)}
    request = EmbeddingRequest(corpus, folder, model="tiny", **{"shard_documents": 10, **options})
    embed(request, encoder=encoder)


def forked(*arguments: object, **options: object) -> multiprocessing.context.ForkProcess:
    """A process of its own that need not load anything first."""
    return multiprocessing.get_context("fork").Process(target=embed_in_process, args=arguments, kwargs=options)


def test_killed_ten_times_at_random_nothing_is_lost_and_nothing_comes_twice(tmp_path: Path, encoder: Encoder) -> None:
    documents = mixed_documents(200)
    corpus = str(write_lines(tmp_path / "c.jsonl", documents))
    embed(EmbeddingRequest(corpus, tmp_path / "straight", model="tiny", shard_documents=5), encoder=encoder)
    straight = EmbeddingStore.open(tmp_path / "straight")
    folder = tmp_path / "killed"
    chance, seen = random.Random(5), []
    for _ in range(10):
        process = forked(corpus, folder, encoder, shard_documents=5)
        process.start()
        before = len(seen) and seen[-1]
        deadline = time.monotonic() + 60
        wanted = before + chance.randint(0, 3)
        while len(list(folder.glob("shard-*.json"))) < wanted and time.monotonic() < deadline:
            time.sleep(0.003)
        time.sleep(chance.uniform(0, 0.05))
        process.kill()
        process.join()
        if seen and (folder / "manifest.json").exists() and not (folder / "pending.json").exists():
            break  # a fast machine was done before the last kills
        seen.append(len(list(folder.glob("shard-*.json"))))
        damage = find_damage(folder)[0] if (folder / "pending.json").exists() else []
        assert damage == []
    assert seen == sorted(seen)
    assert any(0 < shards < 40 for shards in seen)
    embed(EmbeddingRequest(corpus, folder, model="tiny", shard_documents=5), encoder=encoder)
    store = EmbeddingStore.open(folder)
    assert find_damage(folder)[0] == []
    assert all_ids(store) == all_ids(straight) == [document.id for document in documents]
    np.testing.assert_array_equal(all_vectors(store), all_vectors(straight))
    assert not list(folder.glob(".partial-*"))


def test_two_ranks_make_the_same_store_as_one(tmp_path: Path, encoder: Encoder) -> None:
    corpus = str(write_lines(tmp_path / "c.jsonl", DOCUMENTS))
    embed(EmbeddingRequest(corpus, tmp_path / "one", model="tiny", shard_documents=10), encoder=encoder)
    ranks = [forked(corpus, tmp_path / "two", encoder, rank, 2) for rank in range(2)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join()
        assert rank.exitcode == 0
    one, two = EmbeddingStore.open(tmp_path / "one"), EmbeddingStore.open(tmp_path / "two")
    assert one.manifest.rows_fingerprint() == two.manifest.rows_fingerprint()
    np.testing.assert_array_equal(all_vectors(one), all_vectors(two))


def test_int8_ranks_share_one_calibration(tmp_path: Path, tiny_encoder_dir: Path) -> None:
    corpus = str(write_lines(tmp_path / "c.jsonl", mixed_documents(40)))
    one, two = (Encoder.load(tiny_encoder_dir, precision="int8") for _ in range(2))
    embed(EmbeddingRequest(corpus, tmp_path / "one", model="tiny", precision="int8", shard_documents=10), encoder=one)
    ranks = [forked(corpus, tmp_path / "two", two, rank, 2, precision="int8") for rank in range(2)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join()
        assert rank.exitcode == 0
    stores = [EmbeddingStore.open(tmp_path / name) for name in ("one", "two")]
    assert stores[0].manifest.rows_fingerprint() == stores[1].manifest.rows_fingerprint()


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, Place()),
        ({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}, Place(3, 4, 1, 2)),
        ({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_SIZE": "2"}, Place(3, 4, 1, 2)),
        (
            {
                "SLURM_PROCID": "5",
                "SLURM_STEP_NUM_TASKS": "8",
                "SLURM_LOCALID": "1",
                "SLURM_STEP_TASKS_PER_NODE": "4(x2)",
            },
            Place(5, 8, 1, 4),
        ),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, Place()),  # a batch script, not a step of srun
    ],
)
def test_the_launcher_tells_the_place(environment: dict[str, str], expected: Place) -> None:
    assert Place.of_environment(environment) == expected


@pytest.mark.parametrize("world", [1, 2, 3, 7])
def test_every_shard_has_one_rank(world: int) -> None:
    taken = [shard for rank in range(world) for shard in Place(rank, world).shards(20)]
    assert sorted(taken) == list(range(20))


def hold(folder: Path, place: tuple[int, int], held: Event) -> None:
    with store_runs.writing(folder, *place):
        held.set()
        signal.pause()


ALONE, FIRST_OF_TWO, SECOND_OF_TWO = (0, 1), (0, 2), (1, 2)


@pytest.mark.parametrize(
    ("holder", "comer"),
    [(ALONE, ALONE), (ALONE, SECOND_OF_TWO), (FIRST_OF_TWO, ALONE), (FIRST_OF_TWO, FIRST_OF_TWO)],
)
def test_a_stranger_is_refused_and_told_who_writes(
    tmp_path: Path, holder: tuple[int, int], comer: tuple[int, int]
) -> None:
    with holding(tmp_path, holder) as process:
        expected = rf"another process \(pid {process.pid}\) is writing here"
        with pytest.raises(StoreError, match=expected), store_runs.writing(tmp_path, *comer):
            pass
    with store_runs.writing(tmp_path):
        pass


def test_the_ranks_of_one_launch_write_together(tmp_path: Path) -> None:
    with holding(tmp_path, FIRST_OF_TWO), store_runs.writing(tmp_path, *SECOND_OF_TWO):
        pass


@contextlib.contextmanager
def holding(folder: Path, place: tuple[int, int]) -> Iterator[BaseProcess]:
    """Another process that holds the store, until it is killed."""
    fork = multiprocessing.get_context("fork")
    held = fork.Event()
    process = fork.Process(target=hold, args=(folder, place, held))
    process.start()
    try:
        assert held.wait(60)
        yield process
    finally:
        process.kill()
        process.join()


def test_ranks_cannot_share_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="not for a launch of 2 ranks"):
        embed(EmbeddingRequest("-", tmp_path / "s", model="bm25"))
