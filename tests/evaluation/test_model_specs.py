from pathlib import Path

import pytest

from mcontriever.errors import ConfigError
from mcontriever.evaluation.model_specs import ModelSpec, parse_model, parse_models

BM25, NANO = ModelSpec("bm25"), ModelSpec("encoder", "nano")


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("bm25", BM25),
        ("bm25:words", ModelSpec("bm25:words")),
        ("bm25:subwords=org/tokenizer", ModelSpec("bm25:subwords", "org/tokenizer")),
        ("nano", NANO),
        ("hybrid:bm25,nano", ModelSpec("hybrid", parts=(BM25, NANO))),
        (
            "blend:bm25,bm25:subwords=nano,nano",
            ModelSpec("blend", parts=(BM25, ModelSpec("bm25:subwords", "nano"), NANO)),
        ),
        ("bm25+rerank:org/ce", ModelSpec("rerank", "org/ce", (BM25,))),
        ("hybrid:bm25,nano+rerank:org/ce", ModelSpec("rerank", "org/ce", (ModelSpec("hybrid", parts=(BM25, NANO)),))),
    ],
)
def test_every_form_is_read_and_written_back(text: str, spec: ModelSpec) -> None:
    assert parse_model(text) == spec
    assert spec.label({}) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "bm25:",
        "bm25:subwords=",
        "bm25:chars",
        "hybrid:bm25",
        "hybrid:bm25,",
        "blend:nano",
        "+rerank:ce",
        "bm25+rerank:",
    ],
)
def test_what_cannot_be_read_shows_how_to_write_it(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--model '.*' cannot be read\n  fix: write it as "):
        parse_model(text)


def test_folders_are_called_by_as_much_of_their_path_as_tells_them_apart(tmp_path: Path) -> None:
    for name in ("a/export", "b/export", "c/other"):
        (tmp_path / name).mkdir(parents=True)
    a, b, c = (str(tmp_path / name) for name in ("a/export", "b/export", "c/other"))
    specs = parse_models([a, b, c, f"hybrid:bm25,{c}"])
    assert list(specs) == ["a/export", "b/export", "other", "hybrid:bm25,other"]
    assert specs["a/export"] == ModelSpec("encoder", a)


def test_a_model_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="--model bm25 is given twice"):
        parse_models(["bm25", "bm25"])
