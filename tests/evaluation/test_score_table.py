import pytest

from mcontriever.errors import ConfigError
from mcontriever.evaluation.published import published_systems, published_tables
from mcontriever.evaluation.results import Row
from mcontriever.evaluation.score_table import Column, ScoreTable, score_table, to_json, to_markdown


def published_table(table_id: str, left_out: tuple[str, ...] = ()) -> ScoreTable:
    """A published table alone, as its authors print it."""
    columns = [Column(system.name, False, system.values) for system in published_systems([table_id])]
    rows = list(dict.fromkeys(row for column in columns for row in column.values))
    return ScoreTable(rows[0].metric, rows, columns, left_out)


def own_averages(table: ScoreTable) -> dict[str, float]:
    found = {column.name: table.own_average(column) for column in table.columns}
    return {name: round(average.value, 1) for name, average in found.items() if average is not None}


def test_beir_averages_are_those_printed_by_the_paper() -> None:
    averages = own_averages(published_table("beir-supervised-ndcg10", left_out=("MSMARCO",)))
    assert averages == {
        "BM25": 43.0,
        "BM25+CE": 48.6,
        "DPR": 25.5,
        "ANCE": 40.5,
        "TAS-B": 42.8,
        "Gen-Q": 42.5,
        "ColBERT": 44.4,
        "Splade v2": 50.6,
        "Contriever + MS MARCO": 46.6,
        "Contriever + MS MARCO + CE": 50.2,
    }


def test_mr_tydi_averages_are_those_printed_by_the_paper() -> None:
    averages = own_averages(published_table("mrtydi-mrr100"))
    assert averages["mContriever + MS MARCO"] == 38.4
    assert averages["BM25"] == 33.3
    assert averages["mContriever + MS MARCO + Mr. TyDi"] == 65.2


def test_best_on_counts_every_row_and_ties_for_both() -> None:
    table = published_table("beir-supervised-ndcg10", left_out=("MSMARCO",))
    counts = [table.best_on(column) for column in table.columns]
    assert counts == [1, 3, 0, 0, 0, 1, 0, 1, 1, 9]
    assert sum(counts) == len(table.rows) + 1  # FEVER is a tie


def test_an_average_covers_only_what_every_column_has_and_says_how_much() -> None:
    table = published_table("beir-supervised-ndcg10", left_out=("MSMARCO",))
    shared = {column.name: table.average(column) for column in table.columns}
    assert {(average.tasks, average.subsets) for average in shared.values() if average} == {(13, 13)}
    contriever = shared["Contriever + MS MARCO"]
    assert contriever is not None
    assert contriever.value == pytest.approx((652.5 - 34.5) / 13)  # without CQADupstack, which Splade lacks
    markdown = to_markdown(table)
    assert "**average** of 13 tasks that all have" in markdown
    assert "46.6 (14 tasks)" in markdown
    assert "50.6 (13 tasks)" in markdown


def test_each_task_weighs_the_same_however_many_languages_it_has() -> None:
    values = {Row("one", "en", "m"): 0.9, Row("many", "ar", "m"): 0.2, Row("many", "sw", "m"): 0.4}
    mean = {Row("many", "all", "m"): 0.3}
    table = score_table({"x": {**values, **mean}, "y": {**values, **mean}}, [], "m")
    average = table.average(table.columns[0])
    assert average is not None
    assert (average.value, average.tasks, average.subsets) == (pytest.approx(100 * (0.9 + 0.3) / 2), 2, 3)
    assert "2 tasks, 3 subsets" in to_markdown(table)
    found: dict = to_json(table)
    assert found["columns"][0]["average"] == {"value": average.value, "tasks": 2, "subsets": 3}
    assert found["rows"][1] == {"task": "many", "language": "ar"}
    assert found["columns"][1]["values"] == pytest.approx([90.0, 20.0, 40.0, 30.0])


def test_published_systems_stand_beside_ours_only_where_they_have_a_row() -> None:
    ours = {Row("SciFact", "en", "ndcg_at_10"): 0.5, Row("my-set", "ar->en", "ndcg_at_10"): 0.25}
    published = published_systems(["beir-supervised-ndcg10", "mrtydi-mrr100"])
    table = score_table({"mine": ours}, published, "ndcg_at_10")
    assert table.columns[0].name == "mine"
    assert "mContriever" not in {column.name for column in table.columns}
    lines = to_markdown(table).splitlines()
    assert lines[2].startswith("| SciFact | English | 50.0 | 66.5 |")
    assert lines[3].startswith("| my-set | Arabic → English | 25.0 | – |")
    assert "*BM25*" in lines[0]


def test_one_name_with_other_figures_in_two_tables_says_whence() -> None:
    names = [system.name for system in published_systems(["beir-unsupervised-ndcg10", "corpus-pretrain-ndcg10"])]
    assert names.count("BM25") == 1
    assert "Contriever (Lei et al. 2023)" in names  # ArguAna is 37.9 in one table and 43.4 in the other


def test_an_unknown_table_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"no published table 'beer'.*\n.*beir-supervised-ndcg10"):
        published_tables(["beer"])
