"""`mcontriever benchmark` as a user types it."""

import json
import re
import shutil
import socket
import time
from pathlib import Path

import pytest

from mcontriever.benchmark import Request, _tasks, run
from mcontriever.encoder import Encoder
from mcontriever.errors import ConfigError, DataError, HubError, ModelError, StoreError
from mcontriever.evaluation.suites import load_suite
from mcontriever.retrieval.searcher import Index
from mcontriever.tokens import load_tokenizer
from tests.conftest import SENTENCES, RunCli
from tests.evaluation.conftest import write_beir

TABLE_LINE = re.compile(r"^\|.*\|$")


@pytest.fixture
def unreachable_hub(monkeypatch: pytest.MonkeyPatch) -> str:
    """An address where no server listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{probe.getsockname()[1]}"
    monkeypatch.setenv("HF_ENDPOINT", address)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    return address


def test_the_atlas_under_several_models_in_one_call(
    tiny_encoder_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the suite's two tasks, over one folder, the first runs."""
    suite = load_suite("atlas")
    assert [task.metadata.name for task in _tasks(suite)] == ["atlas", "atlas-en"]
    output, first = tmp_path / "out", tmp_path / "first.yaml"
    first.write_text(suite.model_copy(update={"tasks": suite.tasks[:1]}).model_dump_json())
    models = ["bm25", f"hybrid:bm25,{tiny_encoder_dir}"]
    run(Request(models=models, suite=str(first), center_languages=True, output=output))
    shown = capsys.readouterr().out.strip().splitlines()
    assert all(TABLE_LINE.match(line) for line in shown), shown
    rows = json.loads((output / "scores.json").read_text())
    assert all(set(row) == {"model", "task", "language", "metric", "value"} for row in rows)
    assert {row["model"] for row in rows} == {"bm25", "hybrid:bm25,tiny", "hybrid:bm25,tiny (centred)"}
    values = {(row["model"], row["language"], row["metric"]): row["value"] for row in rows}
    assert values["bm25", "en->mixed", "ndcg_at_10"] > 0.4
    assert values["bm25", "en->mixed", "same_language_at_10"] > values["bm25", "en->mixed", "same_language_relevant"]
    assert all(0 <= row["value"] <= 1 for row in rows)
    report = (output / "scores.md").read_text()
    for part in ("## nDCG@10", "## Languages of the hits", "significant?", "## To repeat it\n\n```\nmcontriever"):
        assert part in report
    pictures = {path.name for path in output.glob("*.png")}
    assert {"scores.png", "languages-atlas-bm25.png", "languages-atlas-hybrid_bm25_tiny_centred_.png"} <= pictures
    assert all(name in report for name in pictures)


def test_a_finished_run_is_taken_from_the_folder_and_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, task = tmp_path / "out", tmp_path / "set"
    documents = [
        {"_id": f"{code}-{n}", "text": t, "language": code}
        for code in ("en", "sw")
        for n, t in enumerate(SENTENCES[code])
    ]
    queries = [{**document, "_id": f"q-{document['_id']}", "text": document["text"][:20]} for document in documents]
    write_beir(task, documents, queries, {query["_id"]: {query["_id"][2:]: 1} for query in queries})
    run(Request(models=["bm25", "bm25:words"], tasks=[str(task)], output=output))
    rows = json.loads((output / "scores.json").read_text())
    results = {path: path.stat().st_mtime_ns for path in (output / "queries").rglob("*.json")}
    run(Request(models=["bm25"], tasks=[str(task)], output=output))
    assert json.loads((output / "scores.json").read_text()) == [row for row in rows if row["model"] == "bm25"]
    assert results == {path: path.stat().st_mtime_ns for path in (output / "queries").rglob("*.json")}
    capsys.readouterr()
    run(Request(compare=(str(output), str(output))))
    assert capsys.readouterr().out.count("| within noise |") == 2


def test_a_folder_gets_a_row_and_the_card_its_scores(tiny_encoder_dir: Path, tmp_path: Path) -> None:
    model = tmp_path / "mine"
    shutil.copytree(tiny_encoder_dir, model)
    folders = []
    for name in ("one", "two"):
        folder = tmp_path / name
        (folder / "qrels").mkdir(parents=True)
        (folder / "corpus.jsonl").write_text('{"_id": "d", "text": "the river"}\n{"_id": "e", "text": "the sea"}\n')
        (folder / "queries.jsonl").write_text('{"_id": "q", "text": "river"}\n')
        (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\td\t1\nq\tgone\t1\n")
        folders.append(folder)
    models, tasks = ["bm25", str(model)], [str(folder) for folder in folders]
    run(Request(models=models, tasks=tasks, output=tmp_path / "out", card=True))
    rows = json.loads((tmp_path / "out" / "scores.json").read_text())
    scores = {(row["model"], row["task"]): row["value"] for row in rows if row["metric"] == "ndcg_at_10"}
    assert scores["bm25", "one"] == 1.0
    assert set(scores) == {(m, t) for m in ("bm25", "mine") for t in ("one", "two")}
    facts = json.loads((tmp_path / "out" / "facts.json").read_text())
    assert facts["tasks"]["one"]["counts"] == {"judgements of unknown documents": 1}
    assert "| one | unknown |" in (model / "README.md").read_text()


def test_answer_recall_over_a_store(tiny_encoder_dir: Path, tmp_path: Path) -> None:
    passages = ["The Nile rises in the hills of Burundi.", 'He said "Eureka" in the bath.', "Paris has 2,102 people."]
    store = tmp_path / "store"
    Index.build(Encoder.load(tiny_encoder_dir), passages, store)
    questions = tmp_path / "data" / "open-qa"
    questions.mkdir(parents=True)
    (questions / "nq-test.qa.csv").write_text(
        "where does the nile rise\t['Burundi']\nwhat did he say\t['eureka!', 'Eureka']\nparis people\t['12']\n"
    )
    suite = tmp_path / "small.yaml"
    suite.write_text(
        "name: small\ndescription: x\nquestion_sets: [natural_questions]\npassages: psgs_w100\ndepths: [1, 3]\n"
    )
    models = ["bm25", str(tiny_encoder_dir), f"hybrid:bm25,{tiny_encoder_dir}"]
    output = tmp_path / "out"
    run(Request(models=models, suite=str(suite), stores=[store], offline=tmp_path / "data", output=output))
    rows = json.loads((output / "scores.json").read_text())
    found = {(row["model"], row["metric"]): row["value"] for row in rows}
    assert found["bm25", "answer_recall_at_1"] == pytest.approx(2 / 3, abs=1e-5)
    for model in ("tiny", "hybrid:bm25,tiny"):  # all three passages are looked at, two hold an answer
        assert found[model, "answer_recall_at_3"] == pytest.approx(2 / 3, abs=1e-5)
    report = (output / "scores.md").read_text()
    assert "3 of 21,015,324 passages in the store: not comparable with published figures" in report
    other = Encoder.from_random({"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2},
                                load_tokenizer(str(tiny_encoder_dir)), max_length=64)  # fmt: skip
    other.save(tmp_path / "other")
    with pytest.raises(StoreError, match="the store was made by another encoder"):
        run(Request(models=[str(tmp_path / "other")], suite=str(suite), stores=[store], offline=tmp_path / "data",
                    output=output))  # fmt: skip


def test_a_hub_out_of_reach_is_reported_at_once_with_the_offline_way(
    run_cli: RunCli, unreachable_hub: str, tmp_path: Path
) -> None:
    started = time.monotonic()
    with pytest.raises(
        HubError, match=r"127\.0\.0\.1 cannot be reached: .*\n.*\n.*--prefetch FOLDER.*--offline FOLDER"
    ):
        run(Request(models=["bm25"], suite="nano-beir", output=tmp_path))
    assert time.monotonic() - started < 20  # a hub's own retries take 50 s
    with pytest.raises(HubError, match="give intfloat/multilingual-e5-base as a folder, or where there is a network"):
        run(Request(models=["intfloat/multilingual-e5-base"], suite="atlas", output=tmp_path))
    words = ("benchmark", "--model", "bm25", "--suite", "beir", "--output", tmp_path)
    done = run_cli(*words, anew=True, HF_HUB_OFFLINE="0")
    assert done.returncode == 2
    assert done.stderr.startswith("error: 127.0.0.1 cannot be reached")
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("model", "table", "name"),
    [
        ("facebook/contriever", "peerqa", "Contriever"),
        ("naver/splade_v2_distil", "beir-supervised-ndcg10", "Splade v2"),
        ("bm25+rerank:cross-encoder/ms-marco-MiniLM-L6-v2", "beir-supervised-ndcg10", "BM25+CE"),
    ],
)
def test_a_model_out_of_reach_gives_way_to_its_published_figures(
    model: str, table: str, name: str, unreachable_hub: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    suite = tmp_path / "local.yaml"
    tasks = [{"folder": "mcontriever/atlas/evaluation", "documents": ["sw"]}]
    values = {"name": "local", "description": "", "tasks": tasks, "metrics": ["ndcg_at_10"], "published": [table]}
    suite.write_text(json.dumps(values))
    with caplog.at_level("WARNING"):
        run(Request(models=["bm25", model], suite=str(suite), output=tmp_path / "out"))
    assert f"{model}: 127.0.0.1 cannot be reached" in caplog.text
    assert f"the table has the published figures of {name} instead" in caplog.text
    assert {row["model"] for row in json.loads((tmp_path / "out" / "scores.json").read_text())} == {"bm25"}
    for models in ([model], ["bm25", "facebook/mcontriever"], ["bm25", f"hybrid:bm25,{model}"]):
        with pytest.raises(HubError, match=r"127\.0\.0\.1 cannot be reached"):  # alone; not in the suite's tables
            run(Request(models=models, suite=str(suite), output=tmp_path / "other"))


def test_offline_without_the_data_names_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    with pytest.raises(
        HubError, match=r"HF_HUB_OFFLINE is set, and the cache holds no data set\n.*\n.*--prefetch FOLDER"
    ):
        run(Request(models=["bm25"], suite="beir", output=tmp_path / "out"))
    with pytest.raises(DataError, match=r"no such folder\n.*nowhere"):
        run(Request(models=["bm25"], suite="beir", output=tmp_path / "out", offline=tmp_path / "nowhere"))
    with pytest.raises(HubError, match="no copy of the model some/model"):
        run(Request(models=["some/model"], suite="atlas", output=tmp_path / "out", offline=tmp_path))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("request_", "kind", "message"),
    [
        (Request(models=["bm25"]), ConfigError, "give either --suite NAME or --tasks FOLDER"),
        (Request(models=["bm25"], suite="atlas", tasks=["x"]), ConfigError, "give either --suite NAME or --tasks"),
        (Request(models=["bm25"], suite="atlas"), ConfigError, r"nothing to score\n.*--model .* and --output DIR"),
        (Request(suite="atlas", output=Path("x")), ConfigError, "nothing to score"),
        (Request(models=["./none"], suite="atlas", output=Path("x")), ModelError, r"no such folder\n.*\./none"),
        (Request(models=["bm25"], suite="atlsa", output=Path("x")), ConfigError, "did you mean atlas"),
        (Request(models=["hybrid:bm25"], suite="atlas", output=Path("x")), ConfigError, "write it as hybrid:A,B"),
    ],
)
def test_requests_that_cannot_work(request_: Request, kind: type[Exception], message: str, tmp_path: Path) -> None:
    with pytest.raises(kind, match=message):
        run(request_)


def test_a_suite_of_questions_needs_its_store_and_its_questions(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no --store was given\n.*mcontriever embed psgs_w100\.tsv\.gz"):
        run(Request(models=["bm25"], suite="mkqa", output=tmp_path / "out", offline=tmp_path))
