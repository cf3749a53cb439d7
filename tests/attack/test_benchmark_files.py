"""What `benchmark` reads: folders of tasks and of results, damaged in every way, and with odd values everywhere."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.attack.attempt import Outcome, attempt, content
from tests.attack.damage import ANY_FILE, ODD_JSON, ODD_VALUES, odd_json, places_in, with_value
from tests.conftest import SENTENCES
from tests.evaluation.conftest import write_beir

DAMAGES = {**ANY_FILE, **{f"JSON: {name}": odd_json(name) for name in ODD_JSON}}
TASK_FILES = ("corpus.jsonl", "queries.jsonl", "qrels/test.tsv")
RESULT_FILES = ("scores.json", "facts.json", "queries/bm25/task/default.json")
ODD_JUDGEMENTS = {
    "no header": "q0\td0\t1\n",
    "only a header": "query-id\tcorpus-id\tscore\n",
    "two columns": "q0\td0\n",
    "four columns": "q0\t0\td0\t1\n",
    "spaces": "q0 d0 1\n",
    "fractions": "q0\td0\t0.5\n",
    "negative": "q0\td0\t-1\n",
    "huge": "q0\td0\t1" + "0" * 400 + "\n",
    "unknown ids": "zz\tyy\t1\n",
    "an unknown document": "q0\tyy\t1\nq1\td1\t1\n",
    "twice": "q0\td0\t1\nq0\td0\t0\n",
    "controls": "q0\x1b[2J\td0\t1\n",
    "no digits": "q0\td0\t١\n",
}


@pytest.fixture(scope="session")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """task/ and scores/, what BM25 reaches on it."""
    folder = tmp_path_factory.mktemp("scored")
    documents = [{"_id": f"d{n}", "text": text, "language": "en"} for n, text in enumerate(SENTENCES["en"])]
    queries = [{"_id": f"q{n}", "text": text[:20], "language": "en"} for n, text in enumerate(SENTENCES["en"])]
    write_beir(folder / "task", documents, queries, {f"q{n}": {f"d{n}": 1} for n in range(len(queries))})
    made = benchmark(folder / "task", folder / "scores")
    assert made.code == 0, made.explained()
    assert (folder / "scores" / RESULT_FILES[2]).is_file(), sorted(content(folder / "scores"))
    return folder


def benchmark(task: Path, output: Path) -> Outcome:
    return attempt("benchmark", "--model", "bm25", "--tasks", task, "--output", output)


@pytest.fixture
def task(scored: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(scored / "task", tmp_path / "task"))


@pytest.fixture
def scores(scored: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(scored / "scores", tmp_path / "scores"))


def require_told_or_scored(task: Path, output: Path) -> None:
    outcome = benchmark(task, output)
    outcome.require_clean()
    assert outcome.code == 0 or outcome.told(), outcome.explained()
    assert "\x1b" not in outcome.err + outcome.out
    if outcome.code:
        assert not output.exists()


@pytest.mark.parametrize(
    ("file", "damage"), [(file, damage) for file in TASK_FILES for damage in (DAMAGES if "json" in file else ANY_FILE)]
)
def test_damaged_tasks(task: Path, tmp_path: Path, file: str, damage: str) -> None:
    DAMAGES[damage](task / file)
    require_told_or_scored(task, tmp_path / "out")
    assert not list(tmp_path.rglob("RAN")), "a file ran code"


@pytest.mark.parametrize("name", ODD_JUDGEMENTS)
def test_odd_judgements(task: Path, tmp_path: Path, name: str) -> None:
    (task / "qrels" / "test.tsv").write_text(ODD_JUDGEMENTS[name])
    require_told_or_scored(task, tmp_path / "out")


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", RESULT_FILES)
def test_damaged_results(scored: Path, scores: Path, file: str, damage: str) -> None:
    DAMAGES[damage](scores / file)
    before = content(scores)
    require_compared_or_told(scored, scores, f"{file}: {damage}")
    assert content(scores) == before


def test_every_value_of_every_result(scored: Path, scores: Path) -> None:
    names = [*ODD_VALUES, "absent"]
    tried = 0
    for file in RESULT_FILES:
        whole = (scores / file).read_text()
        for place in places_in(json.loads(whole)):
            for name in (names[tried % len(names)], names[(tried + 5) % len(names)]):
                with_value(scores / file, place, ODD_VALUES[name] if name != "absent" else ...)
                require_compared_or_told(scored, scores, f"{file}: {place} is {name}")
                (scores / file).write_text(whole)
            tried += 1
    assert tried > 30


def require_compared_or_told(scored: Path, scores: Path, where: str) -> None:
    try:
        outcome = attempt("benchmark", "--compare", scores, scored / "scores")
    except Exception as error:
        raise AssertionError(f"{where}: {type(error).__name__}: {error}") from error
    outcome.require_clean()
    assert outcome.code == 0 or outcome.told(), f"{where}\n{outcome.explained()}"


Change = Callable[[Path], object]
HALF_DONE: dict[str, Change] = {
    "the scores of queries": lambda scores: ANY_FILE["cut"](scores / RESULT_FILES[2]),
    "MTEB's own": lambda scores: [ANY_FILE["cut"](path) for path in (scores / "mteb").rglob("*.json")],
}


@pytest.mark.parametrize("what", HALF_DONE)
def test_a_run_that_goes_on_in_a_damaged_folder(scored: Path, scores: Path, what: str) -> None:
    HALF_DONE[what](scores)
    outcome = benchmark(scored / "task", scores)
    outcome.require_clean()
    assert outcome.code == 0 or outcome.told(), outcome.explained()
