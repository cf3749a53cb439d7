"""locations.py: paths in order, and clear words for schemes and files that cannot be read."""

import sys
from pathlib import Path

import pytest
from fsspec.registry import _registry

from mcontriever.errors import ConfigError, DataError
from mcontriever.texts.locations import expand_paths, file_bytes, file_state, is_remote, plain_suffix


def test_paths_expand_by_language_and_wildcard(tmp_path: Path) -> None:
    for name in ("sw_head_0001.gz", "sw_head_0000.gz", "ar_tail_0000.gz", "ar_head_0000.gz"):
        (tmp_path / name).touch()
    found = expand_paths([f"{tmp_path}/{{language}}_{{bucket}}_*.gz"], language=["sw", "ar"], bucket=["head"])
    assert [(Path(path).name, values) for path, values in found] == [
        ("sw_head_0000.gz", {"language": "sw", "bucket": "head"}),
        ("sw_head_0001.gz", {"language": "sw", "bucket": "head"}),
        ("ar_head_0000.gz", {"language": "ar", "bucket": "head"}),
    ]


def test_a_pattern_without_a_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no file matches\n  where: .*/fr_\*\.gz"):
        expand_paths([f"{tmp_path}/{{language}}_*.gz"], language=["fr"])


def test_local_and_remote_names() -> None:
    assert [is_remote(path) for path in ("a/b", "file:///a", "s3://a/b", "https://a/b")] == [False, False, True, True]
    assert [plain_suffix(name) for name in ("a.jsonl.gz", "a.tsv", "a.gz", "a")] == [".jsonl", ".tsv", "", ""]


def test_a_file_is_described_without_reading_it(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"twelve bytes")
    assert file_bytes(str(path)) == file_bytes(f"file://{path}") == 12
    before = file_state(str(path))
    assert before == [str(path), 12, path.stat().st_mtime_ns]
    path.write_bytes(b"thirteen byte")
    assert file_state(str(path)) != before
    for of_file in (file_bytes, file_state):
        with pytest.raises(DataError, match=r"no such file\n  where: .*absent\.txt"):
            of_file(str(tmp_path / "absent.txt"))


def test_a_scheme_that_nothing_reads_is_one_message() -> None:
    with pytest.raises(ConfigError, match=r"weird:// cannot be used here.*\n.*\n  fix: install what fsspec needs"):
        file_bytes("weird://bucket/a.txt")


def test_a_bucket_names_the_extra_that_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where s3fs is not installed; fsspec keeps the classes that it has found."""
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(_registry, "s3", raising=False)
    with pytest.raises(ConfigError, match=r"s3:// cannot be used here.*\n.*\n  fix: pip install 'mcontriever\[s3\]'"):
        file_bytes("s3://bucket/a.txt")
