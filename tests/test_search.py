"""`mcontriever search` as a user types it: tables, JSON lines, runs, the prompt."""

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


def test_json_lines_by_an_encoder(tmp_path: Path, tiny_encoder_dir: Path, run_cli: RunCli) -> None:
    from mcontriever.encoder import Encoder
    from mcontriever.retrieval.searcher import Index

    encoder = Encoder.load(tiny_encoder_dir)
    store = make_store(tmp_path / "s", DOCUMENTS, encoder, model=str(tiny_encoder_dir))
    done = run_cli("search", store.folder, QUERY, "-k", 4, "--json", "--mode", "hybrid", "--explain")
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [list(record) for record in records] == [["rank", "id", "score", "language", "title", "text", "parts"]] * 4
    expected = Index(store, encoder=encoder).search(QUERY, k=4, mode="hybrid")
    assert [(record["rank"], record["id"]) for record in records] == [(hit.rank, hit.id) for hit in expected]
    assert records[0]["parts"]["fused"] == pytest.approx(expected[0].score)


def test_a_table_for_people(lexical_store: Path, run_cli: RunCli) -> None:
    done = run_cli("search", lexical_store, QUERY, "-k", 2, "--language", "en,sw")
    assert done.returncode == 0
    assert "score" in done.stdout.splitlines()[0]
    assert "A small telescope shows four bright moons" in done.stdout
    assert "\x1b" not in done.stdout


def test_a_file_of_queries_gives_json_lines_or_a_run(tmp_path: Path, lexical_store: Path, run_cli: RunCli) -> None:
    queries = write_lines(tmp_path / "q.jsonl", [DOCUMENTS[2], DOCUMENTS[11]])
    done = run_cli("search", lexical_store, "--queries", queries, "-k", 3)
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(record["query"], record["rank"]) for record in records] == [
        (name, rank) for name in ("d2", "d11") for rank in (1, 2, 3)
    ]
    assert records[0]["id"] == "d2"
    run = run_cli("search", lexical_store, "--queries", queries, "-k", 3, "--trec")
    lines = [line.split(" ") for line in run.stdout.splitlines()]
    assert [(q, d, int(rank)) for q, _, d, rank, _, _ in lines] == [
        (record["query"], record["id"], record["rank"]) for record in records
    ]
    assert [(line[1], line[5]) for line in lines] == [("Q0", "mcontriever")] * 6
    for line, record in zip(lines, records, strict=True):
        assert float(line[4]) == pytest.approx(record["score"], abs=1e-6)


def test_ids_with_spaces_cannot_be_in_a_run(tmp_path: Path, run_cli: RunCli) -> None:
    store = make_store(tmp_path / "s", [type(DOCUMENTS[0])("an id", "telescope")], None)
    queries = write_lines(tmp_path / "q.jsonl", [type(DOCUMENTS[0])("q", "telescope")])
    done = run_cli("search", store.folder, "--queries", queries, "--trec")
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
def test_mistakes_are_one_message(lexical_store: Path, arguments: list[str], expected: str, run_cli: RunCli) -> None:
    done = run_cli("search", lexical_store, *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(f"error: {expected}")


def test_a_folder_without_a_store(tmp_path: Path, run_cli: RunCli) -> None:
    done = run_cli("search", tmp_path, "x")
    assert done.returncode == 2
    assert done.stderr.startswith("error: no store here (no manifest.json)")
