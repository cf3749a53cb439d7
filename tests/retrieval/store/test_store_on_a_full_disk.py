"""A store on a full disk: one clear error, and the store stays whole."""

import contextlib
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mcontriever.encoder import Encoder
from mcontriever.errors import StoreError
from mcontriever.retrieval.embedding.embedding_run import embed
from mcontriever.retrieval.embedding.request import EmbeddingRequest
from mcontriever.retrieval.store.embedding_store import EmbeddingStore
from mcontriever.retrieval.store.store_check import find_damage
from mcontriever.texts.documents import Document
from tests.file_size_limit import files_of_at_most
from tests.retrieval.small_corpora import all_ids, all_vectors, make_store, mixed_documents, write_lines

DOCUMENTS = mixed_documents(60)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 400 KB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("tmpfs cannot be mounted here: " + mounted.stderr.decode())
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)  # its files are still mapped


def test_a_full_disk_is_one_clear_error_and_the_store_stays_whole(small_disk: Path, encoder: Encoder) -> None:
    message = r"no space left on the device[\s\S]*run the same command again"
    check_a_failed_append(small_disk / "s", encoder, contextlib.nullcontext(), message)


def test_a_file_that_may_not_grow_is_one_clear_error_too(tmp_path: Path, encoder: Encoder) -> None:
    message = r"larger than may be written here\n.*documents-00001\.parquet\n.*ulimit"
    check_a_failed_append(tmp_path / "small" / "s", encoder, files_of_at_most(20_000), message)


def check_a_failed_append(
    folder: Path, encoder: Encoder, limits: contextlib.AbstractContextManager[None], message: str
) -> None:
    store = make_store(folder.parent.parent / "s", DOCUMENTS, encoder, shard_documents=20)
    first = write_lines(folder.parent.parent / "a.jsonl", DOCUMENTS[:20])
    embed(EmbeddingRequest(str(first), folder, model="tiny"), encoder=encoder)
    chance = random.Random(0)
    long = [Document(f"x{n}", " ".join(str(chance.random()) for _ in range(100))) for n in range(400)]
    more = write_lines(folder.parent.parent / "b.jsonl", long)
    request = EmbeddingRequest(str(more), folder, mode="append", shard_documents=40)
    with pytest.raises(StoreError, match=message), limits:
        embed(request, encoder=encoder)
    assert not list(folder.glob(".partial-*"))
    assert all_ids(EmbeddingStore.open(folder)) == [document.id for document in DOCUMENTS[:20]]
    assert find_damage(folder)[0] == []
    np.testing.assert_array_equal(all_vectors(EmbeddingStore.open(folder)), all_vectors(store)[:20])


def test_vectors_that_cannot_fit_are_refused_before_the_work(small_disk: Path, encoder: Encoder) -> None:
    corpus = write_lines(small_disk.parent / "c.jsonl", [Document(str(n), str(n)) for n in range(8000)])
    with pytest.raises(StoreError, match=r"the vectors need 512\.0 KB, the device has \d+\.\d KB left"):
        embed(EmbeddingRequest(str(corpus), small_disk / "s", model="tiny", keeps_text=False), encoder=encoder)
