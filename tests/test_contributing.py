"""The worked examples of CONTRIBUTING.md, followed to the letter in a copy of the package, give what the page says."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
FENCE = r"```\w+\n(.*?)```"
NEW_FILE = re.compile(r"^New file `([^`]+)`:\n\n" + FENCE, re.M | re.S)
REPLACEMENT = re.compile(r"^In `([^`]+)`, replace\n\n" + FENCE + r"\n\nwith\n\n" + FENCE, re.M | re.S)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with all four examples applied."""
    root = tmp_path_factory.mktemp("project")
    for name in ("mcontriever", "benchmarks/quality/suites", "data_recipes", "configs", "docs"):
        shutil.copytree(REPOSITORY / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
    shutil.copy(REPOSITORY / "benchmarks/quality/published.json", root / "benchmarks/quality")
    shutil.copy(REPOSITORY / "pyproject.toml", root)
    for path, text in NEW_FILE.findall(PAGE):
        assert not (root / path).exists(), path
        (root / path).write_text(text, encoding="utf-8")
    for path, old, new in REPLACEMENT.findall(PAGE):
        source = (root / path).read_text(encoding="utf-8")
        assert source.count(old.rstrip("\n")) == 1, f"{path} holds {source.count(old)} times:\n{old}"
        (root / path).write_text(source.replace(old.rstrip("\n"), new.rstrip("\n")), encoding="utf-8")
    return root


# Each script prints, or ends in the error that it prints; the others run all the same.
RUN_ALL = """
import contextlib, io, json, sys, traceback
printed = {}
for name, script in json.load(sys.stdin).items():
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        try:
            exec(script, {"__name__": name})
        except Exception:
            traceback.print_exc(file=output)
    printed[name] = output.getvalue()
print(json.dumps(printed))
"""


@pytest.fixture(scope="module")
def printed(copy: Path, tiny_tokenizer_dir: Path) -> dict[str, str]:
    """What the scripts below print, run in one process in the copy: it imports torch once."""
    write_reader_recipe(copy)
    reader = READER.replace("TOKENIZER", str(tiny_tokenizer_dir))
    done = subprocess.run(
        [sys.executable, "-c", RUN_ALL],
        input=json.dumps({"loss": LOSS, "reader": reader, "suite": SUITE, "index": INDEX, "reference": REFERENCE}),
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_the_page_has_its_examples() -> None:
    assert len(NEW_FILE.findall(PAGE)) == 2
    assert len(REPLACEMENT.findall(PAGE)) == 6


def test_the_examples_pass_the_checks(copy: Path) -> None:
    changed = [copy / path for path in {path for path, *_ in [*NEW_FILE.findall(PAGE), *REPLACEMENT.findall(PAGE)]}]
    files = [str(path) for path in changed if path.suffix == ".py"]
    for check in (["check", "--no-cache"], ["format", "--check", "--no-cache"]):
        ruff = [sys.executable, "-m", "ruff", *check, *files]
        done = subprocess.run(ruff, cwd=copy, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


REFERENCE = """
import runpy
print("".join(runpy.run_path("docs/generate_reference.py")["pages"]().values()))
"""


def test_the_reference_has_what_was_added(printed: dict[str, str]) -> None:
    for added in ("### Hinge", "or text or file or hub", "ivf-sq4"):
        assert added in printed["reference"]


LOSS = """
import sys, numpy as np, torch
from types import SimpleNamespace
from mcontriever.assembly.training_config import FinetuneConfig
from mcontriever.finetuning.candidates import Candidates
import pydantic
from mcontriever.assembly.objectives import FinetuningObjective

loss = pydantic.TypeAdapter(FinetuningObjective).validate_python({"kind": "hinge", "margin": 0.5})
torch.manual_seed(0)
queries, passages = torch.randn(3, 8), torch.randn(6, 8)
own = torch.zeros(3, 6, dtype=torch.bool)
own[torch.arange(3), torch.arange(3) * 2] = True
candidates = Candidates(queries, passages, passages[::2], passages, own, ~own)
found, _ = loss(candidates, SimpleNamespace())
scores = queries.numpy() @ passages.numpy().T
pairs = [max(0.0, 0.5 - scores[q, 2 * q] + scores[q, p]) for q in range(3) for p in range(6) if p != 2 * q]
assert abs(float(found) - np.mean(pairs)) < 1e-5
print("equal")
"""


def test_the_loss_equals_its_naive_form_and_is_known_to_configurations(printed: dict[str, str]) -> None:
    assert printed["loss"] == "equal\n"


READER = """
from pathlib import Path
from mcontriever import prepare
from mcontriever.config import load_recipe

prepare.run(load_recipe("recipe.yaml"), Path("tokens"), "TOKENIZER", workers=1)
print(open("tokens/report.json").read())
"""


def write_reader_recipe(folder: Path) -> None:
    (folder / "one.txt").write_text("The river rises in the hills.\n\nIt reaches the sea after nine days.\n" * 3)
    (folder / "two.txt").write_bytes(b"\xff\xfe\x00 not UTF-8")
    source = {"reader": "file", "paths": [f"{folder}/*.txt"], "languages": ["en"]}
    recipe = {"name": "files", "licence": "none", "sources": [source]}
    (folder / "recipe.yaml").write_text(json.dumps(recipe))


def test_the_reader_makes_a_document_of_each_file(printed: dict[str, str]) -> None:
    report = json.loads(printed["reader"])["languages"]["en"]
    assert (report["read"], report["kept"], report["dropped"]) == (2, 1, {"undecodable": 1})


SUITE = """
from mcontriever.evaluation.suites import load_suite
print(load_suite("atlas-english").tasks[0].documents)
"""


def test_the_suite_is_found_by_its_name(printed: dict[str, str]) -> None:
    assert printed["suite"] == "['en']\n"


INDEX = """
import numpy as np
from mcontriever.retrieval.vector_search.faiss_index import FaissIndex
from mcontriever.retrieval.vector_search.index_kinds import KINDS, bytes_per_vector
from mcontriever.retrieval.vector_search.vectors import ArrayVectors

assert "ivf-sq4" in KINDS and bytes_per_vector("ivf-sq4", 32) == 24
vectors = np.random.default_rng(0).standard_normal((400, 32), dtype=np.float32)
index = FaissIndex.build(ArrayVectors(vectors), "ivf-sq4", memory_bytes=1 << 24)
_, rows = index.with_effort(index.efforts[-1]).search(vectors[:20], 5)
exact = np.argsort(-(vectors[:20] @ vectors.T), axis=1)[:, :5]
print(np.mean([len(np.intersect1d(a, b)) / 5 for a, b in zip(rows, exact)]))
"""


def test_the_index_finds_what_exact_search_finds(printed: dict[str, str]) -> None:
    assert float(printed["index"]) > 0.9
