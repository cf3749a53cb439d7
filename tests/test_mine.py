"""Mining end to end on a few sentences: against a naive ranking, killed and resumed, and read back for training."""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mcontriever import mine
from mcontriever.config import MineConfig
from mcontriever.encoder import Encoder
from mcontriever.errors import ConfigError, DataError, ModelError, StoreError
from mcontriever.finetuning.examples.training_set import open_training_set
from mcontriever.finetuning.part_folder import PartFolder
from mcontriever.retrieval.calibration import Calibration
from mcontriever.retrieval.language_statistics import LanguageStatistics
from mcontriever.retrieval.store.embedding_store import EmbeddingStore
from mcontriever.texts.documents import Document
from mcontriever.texts.language_detection import with_detected_languages
from tests.sentences_to_mine import COPY, TEXTS, Config, config_maker, folded, records, write_files


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    return write_files(tmp_path)


@pytest.fixture
def config(files: dict[str, Path], tiny_encoder_dir: Path, tmp_path: Path) -> Config:
    return config_maker(files, tiny_encoder_dir, tmp_path / "mined")


def contents(output: str | Path) -> dict[str, str]:
    kept = [path for path in sorted(Path(output).glob("*.*")) if path.is_file()]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in kept}


def test_dense_negatives_equal_a_naive_ranking(config: Config, tiny_encoder_dir: Path) -> None:
    """The search rounds to 8 bits, which in 32 dimensions is a hundredth: neighbours may change places."""
    made = config(merge="raw")
    mine.run(made)
    assert (Path(made.output) / "report.md").read_text().count("\n- + ") == 6  # examples to read, all of the first part
    encoder = Encoder.load(tiny_encoder_dir)
    passages = [*TEXTS, COPY]
    scores = encoder.embed_queries([text[:20] for text in TEXTS]) @ encoder.embed_documents(passages).T
    found = records(made.output)
    assert [record["question"] for record in found] == [text[:20] for text in TEXTS]
    for number, record in enumerate(found):
        falling, near = np.sort(scores[number])[::-1], 1e-2 * float(np.abs(scores[number]).max())
        assert record["positive_ctxs"][0]["id"] == f"p{number}"
        assert record["positive_ctxs"][0]["score"] == pytest.approx(scores[number, number], abs=near)
        negatives = record["hard_negative_ctxs"]
        assert len(negatives) == 3
        for negative in negatives:
            row = passages.index(negative["text"])
            assert negative["score"] == pytest.approx(scores[number, row], abs=near)
            assert falling[negative["rank"] - 1] == pytest.approx(scores[number, row], abs=near)
        ranks, taken = [negative["rank"] for negative in negatives], {folded(one["text"]) for one in negatives}
        assert ranks == sorted(ranks)
        assert len(taken) == 3
        assert folded(TEXTS[number]) not in taken
        passed_over = set(range(1, ranks[-1])) - set(ranks)  # the positive, its copy, or a copy of one taken
        assert len(passed_over) <= 2


def test_in_several_languages_negatives_are_ranked_by_calibrated_scores(
    config: Config, tiny_encoder_dir: Path, tmp_path: Path
) -> None:
    """Also the positive that the corpus lacks is scored by the mean of its language."""
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text(
        "".join(
            json.dumps({"id": str(number), "text": text}) + "\n" for number, text in enumerate(TEXTS) if number != 2
        )
    )
    made = config(corpus=str(corpus))
    mine.run(made)
    store, encoder = EmbeddingStore.open(Path(made.output) / "store"), Encoder.load(tiny_encoder_dir)
    codes_N, names = store.text_languages
    assert len(names) > 1
    texts = [row["text"] for row in store.rows_shown(np.arange(len(store)), ["text"])]
    statistics = LanguageStatistics.empty(names, store.dimension)
    statistics.add(encoder.embed_documents(texts), codes_N)
    calibration = Calibration.of(statistics, is_unit=encoder.similarity == "cosine")
    absent = names.index(with_detected_languages([Document("", TEXTS[2])])[0].language)
    documents = calibration.rows(encoder.embed_documents([*texts, TEXTS[2]]), np.array([*codes_N, absent]))
    scores = calibration.queries(encoder.embed_queries([text[:20] for text in TEXTS])) @ documents.T
    for number, record in enumerate(records(made.output)):
        near = 0.03 * float(np.abs(scores[number]).max())  # 8 bits, 32 dimensions
        positive = len(texts) if number == 2 else texts.index(TEXTS[number])
        assert record["positive_ctxs"][0]["score"] == pytest.approx(scores[number, positive], abs=near)
        for negative in record["hard_negative_ctxs"]:
            expected = scores[number, texts.index(negative["text"])]
            assert negative["score"] == pytest.approx(expected, abs=near)
            assert np.sort(scores[number, :-1])[::-1][negative["rank"] - 1] == pytest.approx(expected, abs=near)


def test_a_margin_is_in_the_encoders_own_scores(config: Config, tiny_encoder_dir: Path) -> None:
    made = config(searchers=[{"kind": "dense", "negatives": 3, "last_rank": 8, "choose": "top", "margin": 0.0}])
    mine.run(made)
    encoder = Encoder.load(tiny_encoder_dir)
    own = np.einsum("qh,qh->q", encoder.embed_queries([text[:20] for text in TEXTS]), encoder.embed_documents(TEXTS))
    found = [record["positive_ctxs"][0]["score"] for record in records(made.output)]
    assert found == pytest.approx(own.tolist(), rel=1e-3)


def test_margins_keep_negatives_below_the_positive(config: Config) -> None:
    searchers = [{"kind": "dense", "negatives": 20, "last_rank": 21, "margin": 0.01, "relative_margin": 0.999}]
    made = config(searchers=searchers)
    mine.run(made)
    for record in records(made.output):
        positive = record["positive_ctxs"][0]["score"]
        assert all(negative["score"] <= positive - 0.01 for negative in record["hard_negative_ctxs"])
    manifest = json.loads((Path(made.output) / "manifest.json").read_text())
    assert manifest["passed_over"]["too near to the positive"] > 0
    assert manifest["negatives"] + sum(manifest["passed_over"].values()) == 20 * 21


def test_bm25_and_dense_mixed_never_take_a_text_twice(config: Config) -> None:
    searchers = [
        {"kind": "bm25", "negatives": 2, "last_rank": 10},
        {"kind": "dense", "negatives": 4, "last_rank": 21},
    ]
    made = config(searchers=searchers)
    mine.run(made)
    sources: list[str] = []
    for record in records(made.output):
        negatives = record["hard_negative_ctxs"]
        texts = [folded(passage["text"]) for passage in [*negatives, *record["positive_ctxs"]]]
        assert len(set(texts)) == len(texts)
        assert [negative["source"] for negative in negatives] == sorted(negative["source"] for negative in negatives)
        sources += [negative["source"] for negative in negatives]
    assert sources.count("dense") == 4 * 20
    assert 0 < sources.count("bm25") <= 2 * 20


def test_bm25_alone_needs_no_model(config: Config) -> None:
    made = config(model=None, searchers=[{"kind": "bm25", "negatives": 2, "relative_margin": 0.95}])
    mine.run(made)
    negatives = [negative for record in records(made.output) for negative in record["hard_negative_ctxs"]]
    assert {negative["source"] for negative in negatives} == {"bm25"}
    report = (Path(made.output) / "report.md").read_text()
    assert "| 1 | " in report
    assert TEXTS[0][:20] in report


def test_interrupted_it_resumes_and_ends_the_same(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = config(output=str(tmp_path / "straight"))
    mine.run(straight)
    broken = config(output=str(tmp_path / "broken"))
    write_part, written = PartFolder.write_part, []

    def fail_at_part_2(self: PartFolder, number: int, *arguments: Any) -> None:
        if number == 2 and 2 not in written:
            written.append(2)
            raise KeyboardInterrupt
        written.append(number)
        write_part(self, number, *arguments)

    monkeypatch.setattr(PartFolder, "write_part", fail_at_part_2)
    interval = sys.getswitchinterval()
    with pytest.raises(KeyboardInterrupt):
        mine.run(broken)
    assert sys.getswitchinterval() == interval
    assert not (tmp_path / "broken" / "manifest.json").exists()
    mine.run(broken)
    assert written == [0, 1, 2, 2, 3]
    mine.run(broken)
    assert written == [0, 1, 2, 2, 3]
    assert contents(tmp_path / "broken") == contents(tmp_path / "straight")


def test_another_configuration_is_refused(config: Config) -> None:
    mine.run(config())
    with pytest.raises(StoreError, match=r"another configuration(.|\n)*seed: 0 there, 5 here(.|\n)*another output"):
        mine.run(config(seed=5))


def test_the_output_trains(config: Config, files: dict[str, Path]) -> None:
    made = config()
    mine.run(made)
    paths = [str(Path(made.output) / "mined-*.jsonl")]
    examples = open_training_set(format="dpr", paths=paths, strict=True)
    assert len(examples) == 20
    assert [document.text for document in examples[3].positives] == [TEXTS[3]]
    assert len(examples[3].negatives) == 3
    ids_only = config(output=made.output + "-ids", texts=False)
    mine.run(ids_only)
    assert "text" not in records(ids_only.output)[0]["hard_negative_ctxs"][0]
    by_id = open_training_set(
        format="dpr", paths=[f"{ids_only.output}/mined-*.jsonl"], collection=str(files["collection"]), strict=True
    )
    assert [by_id[row].negatives for row in range(20)] == [examples[row].negatives for row in range(20)]


def test_all_positives_of_equal_queries_are_known(config: Config, files: dict[str, Path]) -> None:
    """q1 and q2 ask the same words, so the answer to one is not a negative of the other."""
    lines = files["queries"].read_text().split("\n")
    lines[2] = lines[1].replace("q1", "q2")
    files["queries"].write_text("\n".join(lines))
    made = config(searchers=[{"kind": "dense", "negatives": 21, "last_rank": 21}])
    mine.run(made)
    for number in (1, 2):
        texts = [negative["text"] for negative in records(made.output)[number]["hard_negative_ctxs"]]
        assert not {TEXTS[1], TEXTS[2]} & set(texts)
        assert len(texts) == 18


def test_a_collection_in_tevatrons_naming(config: Config, files: dict[str, Path], tmp_path: Path) -> None:
    lines = [line.split("\t") for line in files["collection"].read_text().splitlines()]
    collection = tmp_path / "corpus.jsonl"
    collection.write_text("".join(json.dumps({"docid": name, "contents": text}) + "\n" for name, text in lines))
    examples = {"format": "msmarco", **{name: str(path) for name, path in files.items()}, "collection": str(collection)}
    made = config(examples=examples, model=None, searchers=[{"kind": "bm25", "negatives": 2}])
    mine.run(made)
    ids = {negative["id"] for record in records(made.output) for negative in record["hard_negative_ctxs"]}
    assert {"p0", "p1"} <= ids <= {name for name, _ in lines}


def test_bad_requests(config: Config, files: dict[str, Path], tmp_path: Path) -> None:
    from mcontriever.config import parse_config

    with pytest.raises(ConfigError, match="a dense searcher needs model"):
        parse_config(MineConfig, {**config().model_dump(), "model": None}, source="mine.yaml")
    columns = {"examples": {"format": "columns", "paths": ["train.jsonl"]}, "texts": False}
    with pytest.raises(ConfigError, match="texts: false leaves ids alone"):
        parse_config(MineConfig, {**config().model_dump(), **columns}, source="mine.yaml")
    section = {"kind": "bm25", "first_rank": 9, "last_rank": 3}
    with pytest.raises(ConfigError, match="first_rank 9 is after last_rank 3"):
        parse_config(MineConfig, {**config().model_dump(), "searchers": [section]}, source="mine.yaml")
    with pytest.raises(ModelError, match=r"no such folder\n.*nothing"):
        mine.run(config(cross_encoder={"name": str(tmp_path / "nothing")}))
    assert not (tmp_path / "mined" / "store").exists()  # said before the corpus is embedded
    files["qrels"].write_text("nobody\t0\tp1\t1\n")
    with pytest.raises(DataError, match="no example can be used"):
        mine.run(config())


def test_a_store_of_another_encoder_is_refused(config: Config, tmp_path: Path, tiny_encoder_dir: Path) -> None:
    mine.run(config())
    other = Encoder.load(tiny_encoder_dir, pooling="cls")
    other.save(tmp_path / "other")
    with pytest.raises(StoreError, match="made by another encoder"):
        mine.run(
            config(corpus=str(tmp_path / "mined" / "store"), model=str(tmp_path / "other"), output=str(tmp_path / "x"))
        )
