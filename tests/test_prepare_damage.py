"""prepare.py over damaged sources and recipes that cannot work: counts and places, one clear error."""

import gzip
import json
import lzma
from pathlib import Path

import pytest

from mcontriever import prepare
from mcontriever.errors import ConfigError, DataError, HubError, RunError
from tests.conftest import RunCli
from tests.small_recipes import Recipe, document, jsonl, recipe_of, write_lines

DAMAGED_GOOD_LINES = 40


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """A folder of every kind of damage, with good lines in between."""
    folder = tmp_path / "damaged"
    folder.mkdir()
    good = [
        json.dumps(document(f"Good line {number} of all.")).encode() + b"\n" for number in range(DAMAGED_GOOD_LINES)
    ]
    (folder / "a-bad-json.jsonl").write_bytes(b"".join([*good[:5], b'{"text": "cut\n', b"[]\n", *good[5:10]]))
    (folder / "b-latin1.jsonl").write_bytes(good[10] + '{"text": "caf\u00e9"}\n'.encode("latin-1") + good[11])
    (folder / "c-utf16.jsonl").write_bytes('{"text": "wide"}\n{"text": "wide"}\n'.encode("utf-16"))
    cut = gzip.compress(b"".join(good[12:30]) + b"x" * 200_000, compresslevel=0)
    (folder / "d-cut.jsonl.gz").write_bytes(cut[:100_000])
    (folder / "e-empty.jsonl").touch()
    with lzma.open(folder / "f-long.jsonl.xz", "wb", preset=0) as file:
        file.write(good[30])
        file.writelines(b"y" * 1_000_000 for _ in range(100))
        file.write(b"\n" + good[31])
    (folder / "g-folder.jsonl").mkdir()
    (folder / "h-no-gzip.jsonl.gz").write_bytes(b"not compressed at all")
    (folder / "i-fine.jsonl").write_bytes(b"".join(good[32:]))
    return folder


def test_a_damaged_folder_gives_counts_and_places_and_its_good_lines(
    tmp_path: Path, damaged: Path, tiny_tokenizer_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = recipe_of(jsonl(damaged / "*", languages=["en"]))
    report = prepare.run(recipe, tmp_path / "out", str(tiny_tokenizer_dir), workers=1)
    row = report["languages"]["en"]
    assert row["kept"] == DAMAGED_GOOD_LINES
    assert row["dropped"] == {"malformed": 4, "too_long_line": 1, "truncated": 1, "undecodable": 2}
    assert row["read"] == row["kept"] + 8
    places = {reason: [place.split()[0] for place in found] for reason, found in report["places"]["en"].items()}
    assert places["malformed"][:2] == [f"{damaged}/a-bad-json.jsonl:6", f"{damaged}/a-bad-json.jsonl:7"]
    assert places["too_long_line"] == [f"{damaged}/f-long.jsonl.xz:2"]
    assert places["truncated"] == [f"{damaged}/d-cut.jsonl.gz:19"]
    assert places["undecodable"] == [f"{damaged}/b-latin1.jsonl:2", f"{damaged}/c-utf16.jsonl:1"]
    assert {Path(file["path"]).name: file["reason"] for file in report["damaged_files"]} == {
        "d-cut.jsonl.gz": "truncated",
        "e-empty.jsonl": "empty_file",
        "g-folder.jsonl": "directory",
        "h-no-gzip.jsonl.gz": "corrupt",
    }
    for name in ("d-cut.jsonl.gz:19: truncated", "e-empty.jsonl:1: empty_file", "4 malformed, first at"):
        assert name in caplog.text


def test_strict_stops_at_the_first_damage(tmp_path: Path, tiny_tokenizer_dir: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "fine"}\n{"text": \n')
    with pytest.raises(DataError, match=r"malformed: not a JSON line.*\n.*a\.jsonl:2\n  fix: fix the source"):
        prepare.run(recipe_of(jsonl(path)), tmp_path / "out", str(tiny_tokenizer_dir), workers=1, strict=True)


def test_a_recipe_that_names_a_folder_says_so(tmp_path: Path, tiny_tokenizer_dir: Path) -> None:
    with pytest.raises(
        RunError, match=r"no document was kept\n.*\n  fix: .*: a folder where a file is expected; check"
    ):
        prepare.run(recipe_of(jsonl(tmp_path)), tmp_path / "out", str(tiny_tokenizer_dir), workers=1)


def test_nothing_kept_is_an_error_with_the_reasons(tmp_path: Path, tiny_tokenizer_dir: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", [document("text", "xx")] * 3)
    with pytest.raises(RunError, match=r"no document was kept\n.*\n.*all 3 documents were dropped: 3 wrong_language"):
        prepare.run(recipe_of(jsonl(path)), tmp_path / "out", str(tiny_tokenizer_dir), workers=1)


@pytest.mark.parametrize(
    "source",
    [
        {"reader": "jsonl", "paths": ["https://nowhere.invalid/{language}.jsonl.gz"], "languages": ["sw"]},
        {"reader": "hub", "paths": ["some/dataset"], "languages": ["sw"], "configuration": "{language}"},
    ],
)
def test_a_host_out_of_reach_is_one_message_without_retries(
    tmp_path: Path, source: Recipe, tiny_tokenizer_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    tried: list[object] = []

    def refuse(address: object, timeout: float) -> None:
        tried.append(address)
        raise OSError("refused")

    monkeypatch.setattr("socket.create_connection", refuse)
    with pytest.raises(HubError, match=r"cannot be reached.*\n.*\n  fix: .*download"):
        prepare.run(recipe_of(source), tmp_path / "out", str(tiny_tokenizer_dir), workers=1)
    assert len(tried) == 1  # a hub's own retries take 50 s
    assert not (tmp_path / "out").exists()


def test_mistakes_in_a_recipe_are_named(tmp_path: Path, tiny_tokenizer_dir: Path) -> None:
    def message(source: Recipe) -> str:
        with pytest.raises((ConfigError, DataError)) as raised:
            prepare.run(recipe_of(source), tmp_path / "out", str(tiny_tokenizer_dir), workers=1)
        return str(raised.value)

    here = str(tmp_path / "a.jsonl")
    assert "no such file" in message({"reader": "jsonl", "paths": [here]})
    assert "no file matches" in message({"reader": "jsonl", "paths": [here + "*"]})
    assert "cannot tell the language" in message({"reader": "text", "paths": [here]})
    assert "no languages are listed" in message({"reader": "text", "paths": ["{language}.txt"]})
    assert "did you mean sources.0.filters.min_tokens?" in message(
        {"reader": "jsonl", "paths": [here], "filters": {"min_token": 3}}
    )
    assert "above max_characters 5" in message(
        {"reader": "jsonl", "paths": [here], "filters": {"min_characters": 9, "max_characters": 5}}
    )
    assert "'a/b' is not a language code" in message({"reader": "text", "paths": [here], "languages": ["a/b"]})
    assert "fix: install what fsspec needs for nosuch://" in message(
        {"reader": "text", "paths": ["nosuch://bucket/a.txt"], "languages": ["sw"]}
    )
    assert "titles: true needs" in message({"reader": "text", "paths": [here], "languages": ["sw"], "titles": True})


@pytest.mark.parametrize("named", [["ar", "no", "sw"], {"ar": "arb", "no": "nob", "sw": "swh"}])
def test_languages_without_files_are_left_out_by_the_setting_that_the_error_names(
    tmp_path: Path, tiny_tokenizer_dir: Path, cli: RunCli, named: list[str] | dict[str, str]
) -> None:
    names = named if isinstance(named, dict) else {code: code for code in named}
    for code in ("no", "sw"):
        write_lines(tmp_path / f"{names[code]}_0.jsonl", [document(f"Line {n} of {code}.", code) for n in range(3)])
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        json.dumps(recipe_of({**jsonl(tmp_path / "{language}_*.jsonl"), "languages": named}).model_dump())
    )
    words = ["prepare", recipe, "--output", tmp_path / "out", "--tokenizer", tiny_tokenizer_dir, "--workers", 1]
    failed = cli(*words)
    assert failed.returncode == 2
    message = " ".join(failed.stderr.split())
    assert "no files of ar" in message
    setting = message.split("prepare the others alone: --set '")[1].split("'")[0]
    assert setting.startswith("sources.0.languages=")
    done = cli(*words, "--set", setting)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert {code: row["kept"] for code, row in report["languages"].items()} == {"no": 3, "sw": 3}
