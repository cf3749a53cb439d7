"""Tiny files in each format's own style, read back to what they say."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from mcontriever.errors import ConfigError, DataError
from mcontriever.finetuning.examples.training_example import TrainingExample
from mcontriever.finetuning.examples.training_set import TrainingSet, open_training_set

Shown = tuple[str, list[str], list[str]]


def shown(example: TrainingExample) -> Shown:
    return example.query, [d.full_text for d in example.positives], [d.full_text for d in example.negatives]


def read(**source: Any) -> tuple[TrainingSet, list[Shown]]:
    examples = open_training_set(**{name: str(v) if isinstance(v, Path) else v for name, v in source.items()})
    return examples, [shown(examples[row]) for row in range(len(examples))]


def json_lines(path: Path, records: list[dict[str, Any]]) -> Path:
    text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


EXPECTED = [
    ("what is liver?", ["Liver The liver is an organ."], ["Lava Lava is molten rock.", "Lever A lever turns."]),
    ("متى تهطل الأمطار؟", ["Rain Rain falls in June.", "Rain It rains in June."], []),
]
DPR_RECORDS = [
    {
        "dataset": "nq_train_psgs_w100",
        "question": "what is liver?",
        "answers": ["an organ"],
        "positive_ctxs": [
            {"title": "Liver", "text": "The liver is an organ.", "score": 1000, "title_score": 1, "passage_id": "13"}
        ],
        "negative_ctxs": [{"title": "Chess", "text": "Chess is a game.", "score": 0, "passage_id": "99"}],
        "hard_negative_ctxs": [
            {"title": "Lava", "text": "Lava is molten rock.", "score": 14.7, "title_score": 0, "passage_id": "7"},
            {"title": "Lever", "text": "A lever turns.", "score": 14.1, "title_score": 0, "passage_id": "8"},
        ],
    },
    {
        "dataset": "nq_train_psgs_w100",
        "question": "متى تهطل الأمطار؟",
        "answers": [],
        "positive_ctxs": [
            {"title": "Rain", "text": "Rain falls in June.", "passage_id": "21"},
            {"title": "Rain", "text": "It rains in June.", "passage_id": "22"},
        ],
        "negative_ctxs": [],
        "hard_negative_ctxs": [],
    },
]


def test_dpr_json_array_as_dpr_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "biencoder-nq-train.json"
    path.write_text(json.dumps(DPR_RECORDS, indent=4))
    examples, found = read(format="dpr", paths=[str(path)])
    assert found == EXPECTED
    assert examples[0].positives[0].id == "13"
    assert examples[0].positive_scores == ()  # DPR's BM25 score is not a teacher's
    assert len(examples.passages) == 6  # the random negative too may be drawn


def test_dpr_json_lines_as_contriever_reads_them(tmp_path: Path) -> None:
    _, found = read(format="dpr", paths=[str(json_lines(tmp_path / "train.jsonl.gz", DPR_RECORDS))])
    assert found == EXPECTED


def test_a_json_array_longer_than_a_block_streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcontriever.texts.streams.BUFFER_BYTES", 61)
    monkeypatch.setattr("mcontriever.texts.json_array.CHUNK_BYTES", 61)
    path = tmp_path / "train.json"
    path.write_text(json.dumps(DPR_RECORDS * 3, indent=1, ensure_ascii=False))
    _, found = read(format="dpr", paths=[str(path)])
    assert found == EXPECTED * 3


def test_a_damaged_json_array_names_the_line(tmp_path: Path) -> None:
    lines = json.dumps(DPR_RECORDS, indent=1).split("\n")
    path = tmp_path / "train.json"
    path.write_text("\n".join([*lines[:6], "oops", *lines[6:]]))
    with pytest.raises(DataError, match=r"not valid JSON(.|\n)*train.json:7"):
        read(format="dpr", paths=[str(path)])
    path.write_text("\n".join(lines[:-1]))
    with pytest.raises(DataError, match="cut off"):
        read(format="dpr", paths=[str(path)])


def test_tevatron(tmp_path: Path) -> None:
    records = [
        {
            "query_id": "1185869",
            "query": "what is liver?",
            "positive_passages": [{"docid": "13", "title": "Liver", "text": "The liver is an organ."}],
            "negative_passages": [
                {"docid": "7", "title": "Lava", "text": "Lava is molten rock."},
                {"docid": "8", "title": "Lever", "text": "A lever turns."},
            ],
        },
        {
            "query_id": "1185870",
            "query": "متى تهطل الأمطار؟",
            "positive_passages": [
                {"docid": "21", "title": "Rain", "text": "Rain falls in June."},
                {"docid": "22", "title": "Rain", "text": "It rains in June."},
            ],
            "negative_passages": [],
        },
    ]
    examples, found = read(format="tevatron", paths=[str(json_lines(tmp_path / "train.jsonl", records))])
    assert found == EXPECTED
    assert (examples[0].id, examples[1].positives[1].id) == ("1185869", "22")


COLUMNS_EXPECTED = [
    ("what is liver?", ["The liver is an organ."], ["Lava is molten rock.", "A lever turns."]),
    ("when, does it rain?", ['Rain "falls" in June.'], ["Rain is wet.", "June is a month."]),
]


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet", "saved", "hub_layout"])
def test_sentence_transformers_columns(tmp_path: Path, suffix: str) -> None:
    import datasets

    rows = [
        {"anchor": query, "positive": positives[0], "negative_1": negatives[0], "negative_2": negatives[1]}
        for query, positives, negatives in COLUMNS_EXPECTED
    ]
    path = tmp_path / f"train.{suffix}"
    table = datasets.Dataset.from_list(rows)
    if suffix == "jsonl":
        json_lines(path, rows)
    elif suffix == "csv":
        table.to_csv(path)
    elif suffix == "parquet":
        table.to_parquet(path)
    elif suffix == "saved":
        table.save_to_disk(path)
    else:
        (path / "data").mkdir(parents=True)
        table.to_parquet(path / "data" / "train-00000-of-00001.parquet")
    _, found = read(format="columns", paths=[str(path)])
    assert found == COLUMNS_EXPECTED


def test_columns_under_other_names_with_scores(tmp_path: Path) -> None:
    rows = [
        {"frage": "q1", "pos": ["p1", "p2"], "neg": ["n1"], "pos_scores": [9.5, 8], "neg_scores": [-1]},
        {"frage": "q2", "pos": ["p3"], "neg": ["n2"], "pos_scores": [5], "neg_scores": [2.5]},
    ]
    examples, found = read(
        format="columns", paths=[str(json_lines(tmp_path / "bge.jsonl", rows))], fields={"query": "frage"}
    )
    assert found == [("q1", ["p1", "p2"], ["n1"]), ("q2", ["p3"], ["n2"])]
    assert (examples[0].positive_scores, examples[0].negative_scores) == ((9.5, 8.0), (-1.0,))
    margin = json_lines(tmp_path / "margin.jsonl", [{"query": "q", "positive": "p", "negative": "n", "score": 3.5}])
    examples, _ = read(format="columns", paths=[str(margin)])
    assert examples[0].positive_scores[0] - examples[0].negative_scores[0] == 3.5


def msmarco(folder: Path) -> dict[str, Path]:
    folder.mkdir()
    files = {
        "collection": folder / "collection.tsv",
        "queries": folder / "queries.train.tsv",
        "qrels": folder / "qrels.train.tsv",
        "triples": folder / "qidpidtriples.train.tsv",
    }
    files["collection"].write_text("0\tThe liver is an organ.\n1\tLava is molten rock.\n2\tRain falls in June.\n")
    files["queries"].write_text("121352\twhat is liver?\n634306\twhen does it rain\n9\tnever judged\n")
    files["qrels"].write_text("121352\t0\t0\t1\n634306\t0\t2\t1\n")
    files["triples"].write_text("121352\t0\t1\n121352\t0\t2\n634306\t2\t1\n121352\t0\t1\n")
    return files


def test_msmarco_qrels(tmp_path: Path) -> None:
    files = msmarco(tmp_path / "msmarco")
    examples, found = read(format="msmarco", **{name: files[name] for name in ("collection", "queries", "qrels")})
    assert found == [
        ("what is liver?", ["The liver is an organ."], []),
        ("when does it rain", ["Rain falls in June."], []),
    ]
    assert (examples[1].id, len(examples.passages)) == ("634306", 3)


def test_msmarco_triples_keep_runs_together(tmp_path: Path) -> None:
    files = msmarco(tmp_path / "msmarco")
    _, found = read(format="msmarco", **{name: files[name] for name in ("collection", "queries", "triples")})
    assert found == [
        ("what is liver?", ["The liver is an organ."], ["Lava is molten rock.", "Rain falls in June."]),
        ("when does it rain", ["Rain falls in June."], ["Lava is molten rock."]),
        ("what is liver?", ["The liver is an organ."], ["Lava is molten rock."]),
    ]


def test_beir_with_training_judgements(tmp_path: Path) -> None:
    json_lines(
        tmp_path / "corpus.jsonl.gz",
        [
            {"_id": "d1", "title": "Liver", "text": "The liver is an organ.", "metadata": {}},
            {"_id": "d2", "title": "", "text": "Lava is molten rock.", "metadata": {}},
        ],
    )
    json_lines(tmp_path / "queries.jsonl", [{"_id": "q1", "text": "what is liver?", "metadata": {}}])
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t0\n")
    _, found = read(format="beir", paths=[str(tmp_path)])
    assert found == [("what is liver?", ["Liver The liver is an organ."], ["Lava is molten rock."])]
    qrels = tmp_path / "qrels" / "train.tsv"
    qrels.write_text("query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td7\t1\nq9\td1\t1\n")
    examples, _ = read(format="beir", paths=[str(tmp_path)])
    assert {reason: entry["places"] for reason, entry in examples.problems.items()} == {
        "passage id not in the collection": [f"{qrels}:2 (d7)"],
        "query id not in the queries": [f"{qrels}:4 (q9)"],
    }


def test_texts_by_reference_into_a_collection(tmp_path: Path) -> None:
    files = msmarco(tmp_path / "msmarco")
    mined = [{"question": "q", "positive_ctxs": [{"id": "0"}], "hard_negative_ctxs": [{"id": "2"}, {"id": "77"}]}]
    path = json_lines(tmp_path / "mined.jsonl", mined)
    examples, found = read(format="dpr", paths=[str(path)], collection=files["collection"])
    assert found == [("q", ["The liver is an organ."], ["Rain falls in June."])]
    assert examples.problems == {"passage id not in the collection": {"count": 1, "places": [f"{path}:1 (77)"]}}


BAD_RECORDS = [
    {"query": "good", "positive": "right", "negative": "wrong", "id": "a"},
    {"query": "  ", "positive": "right", "id": "b"},
    {"query": "nothing answers", "positive": [], "id": "c"},
    {"query": "empty answer", "positive": " ", "id": "d"},
    {"query": "same", "positive": "Twice  told", "negative": ["twice told", "wrong", "wrong"], "id": "e"},
    {"query": "id again", "positive": "right", "id": "a"},
]


def test_mistakes_are_counted_with_their_places(tmp_path: Path) -> None:
    path = json_lines(tmp_path / "train.jsonl", BAD_RECORDS)
    examples, found = read(format="columns", paths=[str(path)])
    assert found == [("good", ["right"], ["wrong"]), ("same", ["Twice  told"], ["wrong"])]
    counted = {reason: (entry["count"], entry["places"]) for reason, entry in examples.problems.items()}
    assert counted == {
        "empty query": (1, [f"{path}:2"]),
        "no positive": (2, [f"{path}:3", f"{path}:4"]),
        "empty passage": (1, [f"{path}:4"]),
        "negative equal to a positive": (1, [f"{path}:5"]),
        "passage twice in an example": (1, [f"{path}:5"]),
        "query id twice": (1, [f"{path}:6 (a)"]),
    }


@pytest.mark.parametrize("opened_before", [False, True])
def test_strict_stops_at_the_first_mistake(tmp_path: Path, opened_before: bool) -> None:
    path = json_lines(tmp_path / "train.jsonl", BAD_RECORDS)
    if opened_before:
        read(format="columns", paths=[str(path)])
    with pytest.raises(DataError, match=r"(empty query|no positive)(.|\n)*train.jsonl:\d(.|\n)*strict=false"):
        read(format="columns", paths=[str(path)], strict=True)


def test_ids_without_query_are_counted_and_nothing_left_is_an_error(tmp_path: Path) -> None:
    files = msmarco(tmp_path / "msmarco")
    files["qrels"].write_text("5\t0\t0\t1\n")
    with pytest.raises(DataError, match=r"no example can be used: 1 x query id not in the queries(.|\n)*tsv:1"):
        read(format="msmarco", **{name: files[name] for name in ("collection", "queries", "qrels")})
    files["qrels"].write_text("121352 0 one\n")
    with pytest.raises(DataError, match=r"expected 4 columns, found 3(.|\n)*qrels.train.tsv:1"):
        read(format="msmarco", **{name: files[name] for name in ("collection", "queries", "qrels")})


def test_wrong_sources_are_explained(tmp_path: Path) -> None:
    path = json_lines(tmp_path / "train.jsonl", [{"text": "x"}])
    with pytest.raises(DataError, match=r"no field anchor or query or question; the row has text(.|\n)*jsonl:1"):
        read(format="columns", paths=[str(path)])
    with pytest.raises(DataError, match="unknown field querry"):
        read(format="columns", paths=[str(path)], fields={"querry": "text"})
    with pytest.raises(ConfigError, match="unknown format 'dprr'"):
        read(format="dprr", paths=[str(path)])
    with pytest.raises(ConfigError, match="msmarco takes collection, qrels, queries, triples, found paths"):
        read(format="msmarco", paths=[str(path)])
    with pytest.raises(DataError, match="no such file"):
        read(format="dpr", paths=[str(tmp_path / "absent.jsonl")])


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = json_lines(tmp_path / "train.jsonl", [{"query": "q", "positive": "p"}])
    assert len(read(format="columns", paths=[str(path)])[1]) == 1
    json_lines(path, [{"query": "q", "positive": "p"}, {"query": "r", "positive": "s"}])
    assert len(read(format="columns", paths=[str(path)])[1]) == 2
