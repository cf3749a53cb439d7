"""`mcontriever search` as a user types it: tables, JSON lines, runs, the prompt."""

import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, RunCli
from tests.retrieval.small_corpora import make_store, mixed_documents, write_lines

DOCUMENTS = mixed_documents(60)
QUERY = "telescope shows moons"


@pytest.fixture(scope="module")
def lexical_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("stores") / "lexical", DOCUMENTS, None).folder


def test_json_lines_by_an_encoder(tmp_path: Path, tiny_encoder_dir: Path, cli: RunCli) -> None:
    from mcontriever.encoder import Encoder
    from mcontriever.retrieval.searcher import Index

    encoder = Encoder.load(tiny_encoder_dir)
    store = make_store(tmp_path / "s", DOCUMENTS, encoder, model=str(tiny_encoder_dir))
    done = cli("search", store.folder, QUERY, "-k", 4, "--json", "--mode", "hybrid", "--explain")
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [list(record) for record in records] == [
        ["rank", "id", "score", "language", "title", "text", "confidence", "parts"]
    ] * 4
    expected = Index(store, encoder=encoder).search(QUERY, k=4, mode="hybrid")
    assert [(record["rank"], record["id"]) for record in records] == [(hit.rank, hit.id) for hit in expected]
    assert records[0]["parts"]["calibrated"] == pytest.approx(expected[0].parts["calibrated"], rel=1e-3)


def test_a_table_for_people(lexical_store: Path, cli: RunCli) -> None:
    done = cli("search", lexical_store, QUERY, "-k", 2, "--language", "en,sw")
    assert done.returncode == 0
    assert "score" in done.stdout.splitlines()[0]
    assert "A small telescope shows four bright moons" in done.stdout
    assert "\x1b" not in done.stdout


def test_a_file_of_queries_gives_json_lines_or_a_run(tmp_path: Path, lexical_store: Path, cli: RunCli) -> None:
    queries = write_lines(tmp_path / "q.jsonl", [DOCUMENTS[2], DOCUMENTS[11]])
    done = cli("search", lexical_store, "--queries", queries, "-k", 3)
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(record["query"], record["rank"]) for record in records] == [
        (name, rank) for name in ("d2", "d11") for rank in (1, 2, 3)
    ]
    assert records[0]["id"] == "d2"
    run = cli("search", lexical_store, "--queries", queries, "-k", 3, "--trec")
    lines = [line.split(" ") for line in run.stdout.splitlines()]
    assert [(q, d, int(rank)) for q, _, d, rank, _, _ in lines] == [
        (record["query"], record["id"], record["rank"]) for record in records
    ]
    assert [(line[1], line[5]) for line in lines] == [("Q0", "mcontriever")] * 6
    for line, record in zip(lines, records, strict=True):
        assert float(line[4]) == pytest.approx(record["score"], abs=1e-6)


def test_ids_with_spaces_cannot_be_in_a_run(tmp_path: Path, cli: RunCli) -> None:
    store = make_store(tmp_path / "s", [type(DOCUMENTS[0])("an id", "telescope")], None)
    queries = write_lines(tmp_path / "q.jsonl", [type(DOCUMENTS[0])("q", "telescope")])
    done = cli("search", store.folder, "--queries", queries, "--trec")
    assert done.returncode == 2
    assert "error: the id 'an id' cannot be in a TREC run" in done.stderr


def test_the_prompt_answers_until_the_end_of_input(lexical_store: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "mcontriever", "search", str(lexical_store), "-k", "1", "--json"]
    with subprocess.Popen(
        command, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=REPOSITORY
    ) as process:
        os.close(theirs)
        os.write(ours, b"telescope\n\nMwokaji unga\n\x04")
        output, _ = process.communicate(timeout=300)
    os.close(ours)
    text = output.decode().replace("query> ", "")
    assert process.returncode == 0
    assert [json.loads(line)["language"] for line in text.splitlines()] == ["en", "sw"]


EVIL = "\x1b[2J\x9b0m\u202e\u2066"


@pytest.fixture(scope="module")
def strange_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    Item = type(DOCUMENTS[0])
    documents = [Item(f"id{EVIL}", f"telescope{EVIL} ينبع النهر", f"title{EVIL}", f"xx{EVIL}[red]"), DOCUMENTS[0]]
    return make_store(tmp_path_factory.mktemp("stores") / "strange", documents, None).folder


@pytest.mark.parametrize("options", [[], ["--explain"], ["--json"]])
def test_nothing_foreign_controls_the_terminal(strange_store: Path, options: list[str], cli: RunCli) -> None:
    done = cli("search", strange_store, "telescope", *options)
    assert done.returncode == 0
    for character in "\x1b\x9b\u202e\u2066":
        assert character not in done.stdout + done.stderr
    if options == ["--json"]:
        record = json.loads(done.stdout)
        assert (record["id"], record["title"], record["language"]) == (f"id{EVIL}", f"title{EVIL}", f"xx{EVIL}[red]")
    else:
        assert "\\x1b" in done.stdout
        assert "[red]" in "".join(done.stdout.split())
        assert done.stdout.count("\u2068") == done.stdout.count("\u2069") > 0  # the Arabic part is isolated


def test_an_unknown_language_and_an_id_for_a_run_are_shown_safely(
    tmp_path: Path, strange_store: Path, cli: RunCli
) -> None:
    done = cli("search", strange_store, "x", "--language", "yy")
    assert done.returncode == 2
    assert "\\x1b[2J" in done.stderr
    assert "\x1b" not in done.stderr
    queries = write_lines(tmp_path / "q.jsonl", [type(DOCUMENTS[0])("q", "telescope")])
    done = cli("search", strange_store, "--queries", queries, "--trec")
    assert done.returncode == 2
    assert "cannot be in a TREC run" in done.stderr


def test_a_full_disk_and_an_encoding_that_lacks_letters(strange_store: Path, run_cli: RunCli) -> None:
    command = [sys.executable, "-m", "mcontriever", "search", str(strange_store), "telescope", "--json"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(
        "error: the results cannot be written: No space left on device\n  where: standard output"
    )
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    plain = run_cli("search", strange_store, "telescope", "--json", anew=True, PYTHONIOENCODING="ascii")
    assert json.loads(plain.stdout)["text"] == f"telescope{EVIL} ينبع النهر"
    table = run_cli("search", strange_store, "telescope", anew=True, PYTHONIOENCODING="ascii")
    assert table.returncode == 0
    assert "\\u064a\\u0646" in "".join(table.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "no query was given"),
        (["x", "--queries", "y"], "a query and --queries were both given"),
        (["x", "--trec"], "--trec and --center-queries are for many queries"),
        (
            ["x", "--language", "xx"],
            "no document is in the language 'xx'; the store's languages are ar, en, hi, sw, zh",
        ),
        ([" "], "the query is empty"),
        (["x", "--mode", "dense"], "the store has no vectors"),
    ],
)
def test_mistakes_are_one_message(
    lexical_store: Path, arguments: list[str], expected: str, cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    done = cli("search", lexical_store, *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(f"error: {expected}")


def test_a_folder_without_a_store(tmp_path: Path, cli: RunCli) -> None:
    done = cli("search", tmp_path, "x")
    assert done.returncode == 2
    assert done.stderr.startswith("error: no store here (no manifest.json)")
