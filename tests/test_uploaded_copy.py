"""`--upload`, a copy in an object store: moto's server of S3 where it is installed, and fsspec's file systems."""

import contextlib
import os
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from mcontriever import embed, prepare, uploaded_copy
from mcontriever.disk import atomic_path, read_json, remove_temporaries
from mcontriever.errors import ConfigError, HubError, StoreError
from mcontriever.retrieval.embedding import shard_embedding
from mcontriever.retrieval.embedding.request import EmbeddingRequest
from mcontriever.retrieval.store.store_manifest import Plan, ShardEntry
from tests.conftest import RunCli
from tests.retrieval.small_corpora import mixed_documents, write_lines
from tests.small_recipes import contents, document, jsonl, recipe_of
from tests.small_recipes import write_lines as write_json_lines
from tests.warm_processes import CONTEXT, run_command

pytestmark = pytest.mark.long(8)


@pytest.fixture(params=["files", "s3"])
def bucket(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty place that other processes reach, too."""
    if request.param == "files":
        monkeypatch.setenv("FSSPEC_LOCAL", '{"auto_mkdir": true}')
        monkeypatch.setitem(fsspec.config.conf, "local", {"auto_mkdir": True})
        yield f"local://{tmp_path / 'bucket'}"
        return
    server = pytest.importorskip("moto.server", reason="no server of S3: pip install 's3fs' 'moto[s3,server]'")
    pytest.importorskip("s3fs")
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    running.start()
    host, port = running.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "tests",
        "AWS_SECRET_ACCESS_KEY": "tests",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    file_system = fsspec.filesystem("s3", skip_instance_cache=True)
    name = f"things-{uuid.uuid4()}"
    file_system.mkdir(name)
    yield f"s3://{name}"
    type(file_system).clear_instance_cache()  # the next server has another address
    running.stop()


def copied(url: str) -> dict[str, bytes]:
    file_system, root = fsspec.core.url_to_fs(url, skip_instance_cache=True)
    return {path.removeprefix(root).lstrip("/"): file_system.cat_file(path) for path in file_system.find(root)}


def made(folder: Path) -> dict[str, bytes]:
    return {name: data for name, data in contents(folder).items() if not Path(name).name.startswith((".lock", ".upl"))}


def test_a_lost_machine_costs_what_it_had_not_put_up(bucket: str, tmp_path: Path, cli: RunCli) -> None:
    """Killed half-way, its disk lost; the same command on another disk goes on from the copy."""
    corpus = write_lines(tmp_path / "c.jsonl", mixed_documents(60))
    words = ["embed", str(corpus), "--model", "bm25", "--shard-documents", "15"]
    url = f"{bucket}/stores/one"
    outputs = [str(tmp_path / name) for name in ("stdout", "stderr")]
    command = [*words, "--output", str(tmp_path / "lost"), "--upload", url]
    lost = CONTEXT.Process(target=embed_half, args=(command, dict(os.environ), outputs))
    lost.start()
    record = tmp_path / "lost" / ".uploaded.json"
    while not record.exists() or read_json(record)["files"].get("shard-00001.json") is None:
        assert lost.exitcode is None, Path(outputs[1]).read_text()
        time.sleep(0.01)
    lost.kill()
    lost.join()
    assert "manifest.json" not in copied(url)
    again = cli(*words, "--output", tmp_path / "new", "--upload", url)
    assert again.returncode == 0, again.stderr
    assert f"files from {url}" in again.stderr
    assert "resuming: 2 of 4 shards are done" in again.stderr
    assert cli(*words, "--output", tmp_path / "alone").returncode == 0
    assert copied(url) == made(tmp_path / "new") == made(tmp_path / "alone")


def embed_half(words: list[str], environment: dict[str, str], outputs: list[str]) -> None:
    """The command in this process, which waits before its third shard and never ends by itself."""
    os.environ.update(environment)
    fsspec.config.set_conf_env(fsspec.config.conf)
    write_shard = shard_embedding.write_shard

    def write_two(folder: Path, plan: Plan, number: int, *shard: Any, **facts: Any) -> ShardEntry:
        if number == 2:
            threading.Event().wait()
        return write_shard(folder, plan, number, *shard, **facts)

    shard_embedding.write_shard = write_two
    run_command(words, outputs)


def test_a_copy_follows_its_store(
    bucket: str, tmp_path: Path, tiny_encoder_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    documents = mixed_documents(60)
    first = write_lines(tmp_path / "a.jsonl", documents[:40])
    more = write_lines(tmp_path / "b.jsonl", documents[30:])
    url = f"{bucket}/store"

    caplog.set_level("INFO", logger="mcontriever")

    def run(folder: Path, corpus: Path = first, **options: object) -> str:
        caplog.clear()
        asked = {"model": str(tiny_encoder_dir), "shard_documents": 20, **options}
        embed.run(EmbeddingRequest(str(corpus), folder, **asked), upload=url)
        assert copied(url) == made(folder)
        return caplog.text

    run(tmp_path / "s")
    files = len(copied(url))
    assert f"{files} files; 0 were put up now" in run(tmp_path / "s")
    file_system, root = fsspec.core.url_to_fs(url)
    file_system.rm_file(f"{root}/vectors-00001.npy")
    assert f"{files} files; 1 were put up now" in run(tmp_path / "s")
    run(tmp_path / "s", more, mode="replace")
    assert any(name.startswith("deleted-") for name in copied(url))
    assert f"fetching {len(copied(url))} files" in run(tmp_path / "t", more, mode="replace")
    assert "is complete already" in caplog.text
    other = EmbeddingRequest(str(first), tmp_path / "u", model=str(tiny_encoder_dir))
    embed.run(other)
    before = copied(url)
    with pytest.raises(StoreError, match=r"there are files that \S+ did not put there: deleted-\S+, documents-"):
        embed.run(other, upload=url)
    assert copied(url) == before


def test_token_shards_are_copied_once_they_are_complete(
    bucket: str, tmp_path: Path, tiny_tokenizer_dir: Path, sentences: dict[str, list[str]]
) -> None:
    lines = [document(f"{number} {text}", "sw") for number, text in enumerate(sentences["sw"])]
    files = [write_json_lines(tmp_path / f"{name}.jsonl", lines[:size]) for name, size in (("all", 4), ("some", 2))]
    recipe = recipe_of(jsonl(*files))
    url = f"{bucket}/tokens"
    for folder in ("a", "b"):
        prepare.run(recipe, tmp_path / folder, str(tiny_tokenizer_dir), workers=1, upload=url)
        assert copied(url) == made(tmp_path / folder)
    other = recipe_of(jsonl(files[1]))
    prepare.run(other, tmp_path / "a", str(tiny_tokenizer_dir), workers=1, restart=True, upload=url)
    assert copied(url) == made(tmp_path / "a")
    assert "manifest.json" in copied(url)


def test_a_fetch_that_was_interrupted_goes_on(
    tmp_path: Path, tiny_encoder_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = write_lines(tmp_path / "a.jsonl", mixed_documents(20))
    request = EmbeddingRequest(str(corpus), tmp_path / "s", model=str(tiny_encoder_dir))
    url = "memory://interrupted/store"
    embed.run(request, upload=url)
    memory = type(fsspec.filesystem("memory"))
    get_file = memory.get_file

    def break_off(self: object, path: str, *places: object, **options: object) -> None:
        if path.endswith(".npy"):
            raise ConnectionResetError("the line is dead")
        get_file(self, path, *places, **options)

    monkeypatch.setattr(memory, "get_file", break_off)
    with uploaded_copy.FolderLock(tmp_path / "t"), pytest.raises(HubError, match="the line is dead"):
        uploaded_copy.UploadedCopy(tmp_path / "t", url).fetch()
    monkeypatch.undo()
    assert not (tmp_path / "t" / "manifest.json").exists()
    uploaded_copy.UploadedCopy(tmp_path / "t", url).fetch()
    assert made(tmp_path / "t") == made(tmp_path / "s")


def test_the_record_is_written_beside_the_one_who_sweeps_the_folder(tmp_path: Path) -> None:
    """Both are in one folder, each with its own lock. What a killed upload left goes with the next one."""
    record = tmp_path / ".uploaded.json"
    with atomic_path(record) as temporary:
        temporary.write_text("{}")
        remove_temporaries(tmp_path)
    assert record.read_text() == "{}"
    left = tmp_path / ".partial-1-.uploaded.json"
    left.write_text("half")
    uploaded_copy.UploadedCopy(tmp_path, "memory://swept/store")
    assert not left.exists()


def test_a_run_that_fails_puts_nothing_up_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lock is another's then: the file under way ends, no other begins, and the record stays as it was."""
    memory = fsspec.filesystem("memory")
    put_file = type(memory).put_file
    is_under_way, may_end = threading.Event(), threading.Event()

    def put_slowly(self: object, *places: object, **options: object) -> None:
        is_under_way.set()
        assert may_end.wait(60)
        put_file(self, *places, **options)

    monkeypatch.setattr(type(memory), "put_file", put_slowly)
    for name in ("documents-00000.parquet", "documents-00001.parquet"):
        (tmp_path / name).write_bytes(b"rows")
    copy = uploaded_copy.UploadedCopy(tmp_path, "memory://failed/store")
    before = set(threading.enumerate())
    with contextlib.suppress(ZeroDivisionError), copy.put_up_meanwhile():
        (thread,) = set(threading.enumerate()) - before
        assert is_under_way.wait(60)
        raise ZeroDivisionError
    recorded = contents(tmp_path)
    may_end.set()
    thread.join()
    assert copied(copy.url) == {"documents-00000.parquet": b"rows"}
    assert contents(tmp_path) == recorded


def test_what_cannot_be_is_refused(tmp_path: Path, cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = write_lines(tmp_path / "a.jsonl", mixed_documents(3))
    words = ("embed", corpus, "--model", "bm25", "--output")
    refused = cli(*words, "s3://bucket/store")
    assert refused.returncode == 2
    assert "this is a URL, and a folder is needed\n  where: s3://bucket/store" in refused.stderr
    assert "--upload URL" in refused.stderr
    for verb in (("search", "s3://bucket/store", "x"), ("verify", "s3://bucket/store")):
        refused = cli(*verb)
        assert refused.returncode == 2
        assert "fix: copy it to this machine first, for example: aws s3 sync s3://bucket/store FOLDER" in refused.stderr
    refused = cli(*words, tmp_path / "s", "--upload", "folder")
    assert "--upload folder is no URL" in refused.stderr
    fsspec.filesystem("memory").pipe_file("/strange/x/notes.txt", b"mine")
    refused = cli(*words, tmp_path / "s", "--upload", "memory://strange/x")
    assert "there are files, but no manifest.json of a folder" in refused.stderr
    assert not (tmp_path / "s").exists()
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="--upload is not for a launch of 2 ranks"):
        embed.run(EmbeddingRequest(str(corpus), tmp_path / "s"), upload="memory://b/c")
