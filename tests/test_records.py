"""records.py: a small file matches its type, or one error names the key."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from mcontriever.errors import StoreError
from mcontriever.records import Count, InnerPath, read_record
from mcontriever.run import Follower


@dataclass(frozen=True)
class Facts:
    rows: Count
    name: InnerPath


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"rows": 3, "name": "a.npy"}', None),
        ('{"rows": -1, "name": "a.npy"}', "damaged: rows: "),
        ('{"rows": "x", "name": "a.npy"}', "damaged: rows: "),
        ('{"rows": 3}', "damaged: name: "),
        ('{"rows": 3, "name": "../a"}', r"damaged: name: .*'\.\./a' is not a file of this folder"),
        ('{"rows": 3, "name": "/etc/passwd"}', "damaged: name: "),
        ("[]", "damaged: the file: "),
        ("[" * 10_000, "not valid JSON"),
    ],
)
def test_a_record_is_checked(tmp_path: Path, text: str, message: str | None) -> None:
    path = tmp_path / "facts.json"
    path.write_text(text)
    if message is None:
        assert read_record(path, Facts) == Facts(3, "a.npy")
        return
    with pytest.raises(StoreError, match=message + r"[\s\S]*where: .*facts\.json[\s\S]*fix: "):
        read_record(path, Facts)


@pytest.mark.parametrize("text", ["[]", "7", '{"a": 1}', "{"])
def test_a_plans_damaged_record_is_reported(tmp_path: Path, text: str) -> None:
    (tmp_path / "commands-done.json").write_text(text)
    with pytest.raises(StoreError, match=r"where: .*commands-done\.json"):
        Follower([], tmp_path, "stage-01-command")._command(["export", "x"])
