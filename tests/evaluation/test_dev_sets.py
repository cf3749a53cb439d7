"""Dev sets scored while training, against nDCG and recall written out by hand, and two ranks against one."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from mcontriever.encoder import Encoder
from mcontriever.errors import DataError
from mcontriever.evaluation.dev_sets import DevSet, score, score_dev_sets
from tests.two_ranks import on_two_ranks


def write_set(folder: Path, documents: list[str], queries: list[str], judged: list[tuple[str, str, int]]) -> Path:
    (folder / "qrels").mkdir(parents=True)
    for name, prefix, texts in (("corpus", "d", documents), ("queries", "q", queries)):
        lines = [json.dumps({"_id": f"{prefix}{n}", "text": text, "title": ""}) for n, text in enumerate(texts)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    rows = ["query-id\tcorpus-id\tscore", *("\t".join(map(str, row)) for row in judged)]
    (folder / "qrels" / "test.tsv").write_text("\n".join(rows) + "\n")
    return folder


def naive_scores(dev_set: DevSet, queries: np.ndarray, documents: np.ndarray) -> dict[str, float]:
    ndcg, mrr, recall = [], [], []
    for query, vector in zip(dev_set.queries, queries.astype(np.float64), strict=True):
        order = np.argsort(-(documents.astype(np.float64) @ vector), kind="stable")
        grades = [dev_set.relevance[query.id].get(dev_set.documents[place].id, 0) for place in order]
        gain = sum(grade / math.log2(rank + 2) for rank, grade in enumerate(grades[:10]))
        best = sorted(dev_set.relevance[query.id].values(), reverse=True)
        ideal = sum(grade / math.log2(rank + 2) for rank, grade in enumerate(best[:10]))
        ndcg.append(gain / ideal)
        first = next((rank for rank, grade in enumerate(grades[:100], start=1) if grade > 0), None)
        mrr.append(0.0 if first is None else 1 / first)
        recall.append(sum(grade > 0 for grade in grades[:100]) / sum(grade > 0 for grade in best))
    return {"ndcg@10": float(np.mean(ndcg)), "mrr@100": float(np.mean(mrr)), "recall@100": float(np.mean(recall))}


def test_scores_are_those_of_the_definitions(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    judged = [
        (f"q{query}", f"d{document}", int(random.integers(0, 3)))
        for query in range(30)
        for document in random.choice(300, 4, replace=False)
    ]
    judged += [(f"q{query}", "d7", 1) for query in range(30)]
    dev_set = DevSet.load(write_set(tmp_path / "set", ["text"] * 300, ["question"] * 30, judged))
    queries, documents = random.normal(size=(len(dev_set.queries), 8)), random.normal(size=(300, 8))
    found = score(dev_set, queries.astype(np.float32), documents.astype(np.float32))
    assert found == pytest.approx(naive_scores(dev_set, queries, documents), abs=1e-9)
    assert 0.05 < found["recall@100"] < 0.95


def test_queries_that_cannot_be_judged_do_not_count(tmp_path: Path) -> None:
    judged = [("q0", "d0", 1), ("q1", "d9", 1), ("q2", "d1", 0), ("q0", "d9", 1)]
    dev_set = DevSet.load(write_set(tmp_path / "set", ["a", "b"], ["x", "y", "z"], judged))
    assert [query.id for query in dev_set.queries] == ["q0"]
    assert dev_set.relevance == {"q0": {"d0": 1}}
    with pytest.raises(DataError, match="none of the 1 judged queries has a relevant document in the corpus"):
        DevSet.load(write_set(tmp_path / "empty", ["a"], ["x"], [("q0", "d5", 1)]))


def scores_of(encoder_folder: str, sets: list[str]) -> dict[str, dict[str, float]]:
    return score_dev_sets(Encoder.load(encoder_folder), [DevSet.load(folder) for folder in sets])


def test_two_ranks_share_the_work_and_agree_with_one(
    tmp_path: Path, tiny_encoder_dir: Path, sentences: dict[str, list[str]]
) -> None:
    sets = []
    for language, texts in sentences.items():
        judged = [(f"q{n}", f"d{n}", 1) for n in range(3)]
        sets.append(str(write_set(tmp_path / language, texts, [text[:20] for text in texts[:3]], judged)))
    alone = scores_of(str(tiny_encoder_dir), sets[:3])
    assert set(alone) == {"en", "ar", "sw", "mean"}
    assert alone["mean"]["ndcg@10"] == pytest.approx(np.mean([alone[name]["ndcg@10"] for name in ("en", "ar", "sw")]))
    for shared in on_two_ranks(scores_of, str(tiny_encoder_dir), sets[:3]):
        assert shared == alone


def test_each_language_of_a_mixed_set_is_scored_by_itself(
    tmp_path: Path, tiny_encoder_dir: Path, sentences: dict[str, list[str]]
) -> None:
    texts = [text for language in ("en", "ar") for text in sentences[language]]
    judged = [(f"q{n}", f"d{n}", 1) for n in range(8)]
    folder = write_set(tmp_path / "mixed", texts, [text[:20] for text in texts], judged)
    lines = [json.loads(line) for line in (folder / "queries.jsonl").read_text().splitlines()]
    named = [{**line, "language": "en" if number < 4 else "ar"} for number, line in enumerate(lines)]
    (folder / "queries.jsonl").write_text("".join(json.dumps(line) + "\n" for line in named))
    scores = scores_of(str(tiny_encoder_dir), [str(folder)])
    assert set(scores) == {"mixed", "mixed (ar)", "mixed (en)", "mean"}
    for metric, value in scores["mixed"].items():
        assert value == pytest.approx((scores["mixed (ar)"][metric] + scores["mixed (en)"][metric]) / 2)
    assert scores["mean"] == scores["mixed"]
