"""`--upload`, a copy in an object store: moto's server of S3 where it is installed, and fsspec's file systems."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from mcontriever import embed, prepare, uploaded_copy
from mcontriever.errors import ConfigError, HubError, StoreError
from mcontriever.retrieval.embedding.request import EmbeddingRequest
from tests.conftest import RunCli
from tests.retrieval.small_corpora import mixed_documents, write_lines
from tests.small_recipes import contents, document, jsonl, recipe_of
from tests.small_recipes import write_lines as write_json_lines

pytestmark = pytest.mark.long(25)


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


def test_a_lost_machine_costs_what_it_had_not_put_up(bucket: str, tmp_path: Path, run_cli: RunCli) -> None:
    """Killed half-way, its disk lost; the same command on another disk goes on from the copy."""
    corpus = write_lines(tmp_path / "c.jsonl", mixed_documents(3_000))
    words = ["embed", str(corpus), "--model", "bm25", "--shard-documents", "50"]
    url = f"{bucket}/stores/one"
    command = [sys.executable, "-m", "mcontriever", *words, "--output", str(tmp_path / "lost"), "--upload", url]
    file_system, root = fsspec.core.url_to_fs(url, skip_instance_cache=True)
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        while not any("/shard-" in path for path in file_system.find(root)):
            assert process.poll() is None, process.communicate()[1].decode()
            time.sleep(0.01)
            file_system.invalidate_cache()
        os.kill(process.pid, signal.SIGKILL)
    assert "manifest.json" not in copied(url)
    again = run_cli(*words, "--output", tmp_path / "new", "--upload", url, anew=True)
    assert again.returncode == 0, again.stderr
    assert f"files from {url}" in again.stderr
    assert "resuming: " in again.stderr
    assert run_cli(*words, "--output", tmp_path / "alone").returncode == 0
    assert copied(url) == made(tmp_path / "new") == made(tmp_path / "alone")


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
        asked = {"model": str(tiny_encoder_dir), "shard_documents": 10, **options}
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
