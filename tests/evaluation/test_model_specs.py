from pathlib import Path

import pytest

from mcontriever.errors import ConfigError
from mcontriever.evaluation.model_specs import ModelSpec, SearchSpec, parse_model, parse_models

BM25, NANO = SearchSpec("bm25"), SearchSpec("encoder", "nano")


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("bm25", ModelSpec((BM25,))),
        ("bm25:words", ModelSpec((SearchSpec("bm25:words"),))),
        ("bm25:subwords=org/tokenizer", ModelSpec((SearchSpec("bm25:subwords", "org/tokenizer"),))),
        ("nano", ModelSpec((NANO,))),
        ("hybrid:bm25,nano", ModelSpec((BM25, NANO), "hybrid")),
        ("blend:bm25,bm25:subwords=nano,nano", ModelSpec((BM25, SearchSpec("bm25:subwords", "nano"), NANO), "blend")),
        ("bm25+rerank:org/ce", ModelSpec((BM25,), reranker="org/ce")),
        ("sparta:org/b", ModelSpec((SearchSpec("sparta", "org/b"),))),
        ("splade:org/b", ModelSpec((SearchSpec("splade", "org/b"),))),
        ("hybrid:bm25,sparta:org/b", ModelSpec((BM25, SearchSpec("sparta", "org/b")), "hybrid")),
        ("dpr:org/q,org/c", ModelSpec((SearchSpec("two encoders", "org/q", "org/c"),))),
        (
            "dpr:org/q,org/c+rerank:org/ce",
            ModelSpec((SearchSpec("two encoders", "org/q", "org/c"),), reranker="org/ce"),
        ),
        ("hybrid:bm25,nano+rerank:org/ce", ModelSpec((BM25, NANO), "hybrid", "org/ce")),
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
        "sparta:",
        "splade:",
        "dpr:q",
        "dpr:q,",
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
    assert specs["a/export"] == ModelSpec((SearchSpec("encoder", a),))
    assert [spec.is_one_encoder for spec in specs.values()] == [True, True, True, False]


def test_a_model_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="duplicate --model bm25"):
        parse_models(["bm25", "bm25"])
