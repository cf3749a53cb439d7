"""`mcontriever trim --center`: a model whose vectors are those of another less their mean."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from mcontriever import trim
from mcontriever.encoder import Encoder
from mcontriever.errors import UserError

BODY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "xlm-r": ("xlm-roberta", {}),
    "me5": ("bert", {"query_prefix": "query: ", "document_prefix": "passage: "}),
    "first token": ("bert", {"pooling": "cls"}),
}


def made(folder: Path, kind: str, tokenizer: Any, **settings: Any) -> Path:
    model_type, own = KINDS[kind]
    config = {**BODY, "model_type": model_type}
    return Encoder.from_random(config, tokenizer, seed=3, max_length=128, **own, **settings).save(folder)


@pytest.fixture(scope="module")
def text_file(tmp_path_factory: pytest.TempPathFactory, sentences: dict[str, list[str]]) -> Path:
    """English counts no more than Arabic, though there is more of it."""
    file = tmp_path_factory.mktemp("text") / "two.jsonl"
    rows = [{"text": text, "language": "en"} for text in dict.fromkeys(sentences["en"])]
    rows += [{"text": text, "language": "ar"} for text in list(dict.fromkeys(sentences["ar"]))[:5]]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def centred(model: Path, text: Path, output: Path) -> Encoder:
    trim.run(str(model), output, text=str(text), samples=1000, center=True)
    return Encoder.load(output)


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_are_the_model_s_own_less_the_mean_of_the_languages_means(
    kind: str, tokenizer: Any, text_file: Path, tmp_path: Path, sentences: dict[str, list[str]]
) -> None:
    before = Encoder.load(made(tmp_path / "whole", kind, tokenizer))
    after = centred(tmp_path / "whole", text_file, tmp_path / "centred")
    english, arabic = list(dict.fromkeys(sentences["en"])), list(dict.fromkeys(sentences["ar"]))[:5]
    mean = (before.embed_documents(english).mean(0) + before.embed_documents(arabic).mean(0)) / 2
    assert np.linalg.norm(mean) > 0.1
    np.testing.assert_allclose(after.embed_documents(arabic), before.embed_documents(arabic) - mean, atol=1e-5)
    np.testing.assert_allclose(after.embed_queries(english), before.embed_queries(english) - mean, atol=1e-5)
    theirs = SentenceTransformer(str(tmp_path / "centred"), device="cpu")
    prompt = after.document_prefix or None
    np.testing.assert_allclose(theirs.encode(arabic, prompt=prompt), after.embed_documents(arabic), atol=1e-5)


def test_the_report_and_the_card_say_so(tokenizer: Any, text_file: Path, tmp_path: Path) -> None:
    model = made(tmp_path / "whole", "xlm-r", tokenizer)
    centred(model, text_file, tmp_path / "centred")
    trim.run(str(model), tmp_path / "plain", text=str(text_file))
    for name, expected in (("centred", True), ("plain", False)):
        for page in ("report.md", "README.md"):
            assert ("vectors are centred" in (tmp_path / name / page).read_text()) == expected
        assert json.loads((tmp_path / name / "report.json").read_text())["centered"] == expected


def test_a_model_of_cosines_is_centred_before_its_vectors_get_length_one(
    tokenizer: Any, text_file: Path, tmp_path: Path, sentences: dict[str, list[str]]
) -> None:
    dot, cosine = (
        centred(made(tmp_path / name, "me5", tokenizer, similarity=name), text_file, tmp_path / f"{name} centred")
        for name in ("dot", "cosine")
    )
    vectors = dot.embed_documents(sentences["en"])
    expected = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(cosine.embed_documents(sentences["en"]), expected, atol=1e-5)


def test_what_cannot_be_centred_is_refused(tokenizer: Any, text_file: Path, tmp_path: Path, cli: Any) -> None:
    model = made(tmp_path / "whole", "me5", tokenizer)
    one = tmp_path / "one.jsonl"
    one.write_text('{"text": "A lonely lighthouse.", "language": "en"}\n')
    for name, text, message in (
        ("nano", text_file, "--center needs layers that end in a LayerNorm"),
        (str(model), one, "--center needs the vectors of two texts or more"),
    ):
        with pytest.raises(UserError, match=message) as error:
            trim.run(name, tmp_path / "out", text=str(text), center=True)
        assert error.value.fix
    done = cli("trim", model, "--layers", "0", "--center", "--output", tmp_path / "out")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: --center without --text\n")
    assert not (tmp_path / "out").exists()
