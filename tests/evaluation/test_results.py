import json
from pathlib import Path

import numpy as np
import pytest

from mcontriever.errors import ConfigError, DataError, StoreError
from mcontriever.evaluation.card_scores import score_block, write_scores_into_card
from mcontriever.evaluation.comparison import compare, to_markdown
from mcontriever.evaluation.results import Benchmark, Row, SubsetScores, file_name, write_scores

METRIC = "ndcg_at_10"


def write_benchmark(
    folder: Path, models: dict[str, dict[str, np.ndarray]], data_revision: str = "data-1", task: str = "xquad"
) -> Path:
    """A result folder: model -> language -> scores of its queries."""
    scores: dict[str, dict[Row, float]] = {}
    for model, languages in models.items():
        for language, values in languages.items():
            subset = SubsetScores(
                model=model,
                revision=f"revision of {model}",
                task=task,
                data_revision=data_revision,
                subset=language,
                language=language,
                queries=[f"{language}-{i}" for i in range(len(values))],
                values={METRIC: values.tolist()},
            )
            subset.save(folder)
            scores.setdefault(model, {})[Row(task, language, METRIC)] = subset.mean(METRIC)
    facts = {
        "suite": "mini",
        "metrics": [METRIC],
        "started": "2026-01-02 03:04:05 UTC",
        "versions": {"mcontriever": "0.1.0", "mteb": "2.26"},
        "models": {model: {"revision": "0123456789abcdef0123"} for model in models},
        "tasks": {task: {}},
    }
    write_scores(folder, scores, facts)
    return folder


def values(seed: int, count: int = 200) -> np.ndarray:
    return np.random.default_rng(seed).random(count)


def test_scores_json_is_a_list_of_five_fields(tmp_path: Path) -> None:
    folder = write_benchmark(tmp_path, {"bm25": {"ar": values(0)}})
    rows = json.loads((folder / "scores.json").read_text())
    assert [set(row) for row in rows] == [{"model", "task", "language", "metric", "value"}]
    assert rows[0]["value"] == pytest.approx(values(0).mean(), abs=1e-6)
    assert Benchmark.load(folder / "scores.json").scores == Benchmark.load(folder).scores


def test_a_result_of_another_version_is_refused_with_both_versions(tmp_path: Path) -> None:
    folder = write_benchmark(tmp_path, {"bm25": {"ar": values(0)}})
    facts = json.loads((folder / "facts.json").read_text())
    (folder / "facts.json").write_text(json.dumps({**facts, "format": 7}))
    with pytest.raises(StoreError, match=r"format 7, this version of mcontriever reads format 1\n.*facts\.json"):
        Benchmark.load(folder)


def test_what_is_no_result_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no scores\.json here"):
        Benchmark.load(tmp_path)
    folder = write_benchmark(tmp_path / "a", {"bm25": {"ar": values(0)}})
    (folder / "scores.json").write_text('[{"model": "bm25"}]')
    with pytest.raises(StoreError, match=r"damaged: 0\.\w+: "):
        Benchmark.load(folder)


def test_compare_tells_what_is_more_than_noise_by_language(tmp_path: Path) -> None:
    before = {"ar": values(0), "sw": values(1), "en": values(2)}
    noise = np.random.default_rng(9).normal(0, 0.05, 200)
    after = {
        "ar": before["ar"] + 0.1 + noise,
        "sw": before["sw"] - 0.1 + noise,
        "en": before["en"] + noise - noise.mean(),
    }
    a = write_benchmark(tmp_path / "a", {"model": before})
    b = write_benchmark(tmp_path / "b", {"model": after})
    comparison = compare(str(a), str(b))
    differences = {language: test.difference for (_, language), test in comparison.tests.items()}
    assert differences == {
        language: pytest.approx(float(np.mean(after[language] - before[language]))) for language in before
    }
    lines = {line.split("|")[2].strip(): line for line in to_markdown(comparison).splitlines() if "| xquad |" in line}
    assert lines["Arabic"].endswith("| better |")
    assert lines["Swahili"].endswith("| worse |")
    assert lines["English"].endswith("| within noise |")
    summary = comparison.summary
    assert (summary.significantly_better, summary.significantly_worse, summary.groups) == (1, 1, 3)


def test_compare_pairs_queries_by_id_not_by_place(tmp_path: Path) -> None:
    scores = values(0)
    a = write_benchmark(tmp_path / "a", {"model": {"ar": scores}})
    b = write_benchmark(tmp_path / "b", {"model": {"ar": scores}})
    path = b / "queries" / "model" / "xquad" / "ar.json"
    stored = json.loads(path.read_text())
    order = np.random.default_rng(4).permutation(len(scores))
    stored["queries"] = [stored["queries"][i] for i in order]
    stored["values"][METRIC] = [stored["values"][METRIC][i] for i in order]
    path.write_text(json.dumps(stored))
    assert compare(str(a), str(b)).tests["xquad", "ar"].p == 1.0


def test_two_models_of_one_folder_are_named_behind_a_colon(tmp_path: Path) -> None:
    folder = write_benchmark(tmp_path, {"bm25": {"ar": values(0)}, "bm25:words": {"ar": values(1)}})
    comparison = compare(f"{folder}:bm25", f"{folder}:bm25:words")
    assert (comparison.name_a, comparison.name_b) == ("bm25", "bm25:words")
    with pytest.raises(ConfigError, match=r"holds 2 models\n.*say which: .*:bm25, \.\.\. \(bm25, bm25:words\)"):
        compare(str(folder), str(folder))
    with pytest.raises(ConfigError, match=r"no model 'nano' in .*\n.*it holds bm25, bm25:words"):
        compare(f"{folder}:nano", f"{folder}:bm25")


def test_results_on_other_data_are_not_compared(tmp_path: Path) -> None:
    a = write_benchmark(tmp_path / "a", {"model": {"ar": values(0)}}, data_revision="data-1")
    b = write_benchmark(tmp_path / "b", {"model": {"ar": values(0)}}, data_revision="data-2")
    with pytest.raises(DataError, match="the data differ: revision data-1 in A, data-2 in B"):
        compare(str(a), str(b))
    c = write_benchmark(tmp_path / "c", {"model": {"ar": values(0, 20)}}, data_revision="data-1")
    with pytest.raises(DataError, match="the queries differ: 200 in A, 20 in B"):
        compare(str(a), str(c))


def test_labels_become_different_file_names() -> None:
    labels = [
        "bm25",
        "bm25:words",
        "org/model",
        "org__model2",
        "a b",
        "hybrid:bm25,nano",
        "x+rerank:org/ce",
        "x (centred)",
    ]
    assert len({file_name(label) for label in labels}) == len(labels)
    assert all("/" not in file_name(label) for label in labels)


def test_a_card_takes_its_scores_from_a_benchmark_and_keeps_the_rest(tmp_path: Path) -> None:
    folder = write_benchmark(tmp_path / "b", {"bm25": {"ar->en": values(0)}, "mine": {"ar->en": values(1)}})
    block = score_block(folder, "mine")
    assert f"| xquad | Arabic → English | {100 * values(1).mean():.1f} |" in block.replace("**", "")
    assert "| task | language | mine | bm25 |" in block
    card = tmp_path / "README.md"
    card.write_text("# Mine\n\nHow it was trained.\n")
    write_scores_into_card(card, "<!-- mcontriever benchmark -->\nold\n<!-- end of mcontriever benchmark -->")
    card.write_text(card.read_text() + "\nWritten by hand behind it.\n")
    write_scores_into_card(card, block)
    text = card.read_text()
    assert text.startswith("# Mine\n\nHow it was trained.\n\n<!-- mcontriever benchmark -->\n## Scores: mini, nDCG@10")
    assert text.endswith("Written by hand behind it.\n")
    assert "old" not in text
    assert text.count("<!-- mcontriever benchmark -->") == 1
