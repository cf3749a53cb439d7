"""`mcontriever average`: a model whose weights are the mean of those of others."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer

from mcontriever import average
from mcontriever.encoder import Encoder
from mcontriever.encoder.saved_model import write_evidence_rule
from mcontriever.encoder.two_encoders import TwoEncoders
from mcontriever.errors import UserError
from mcontriever.evidence_rule import EvidenceRule
from mcontriever.tokenizer import train_tokenizer
from mcontriever.tokens import load_tokenizer

BODY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
TEXTS = ["A heron waits in the reeds.", "مالك الحزين ينتظر بين القصب.", "x"]


def made(folder: Path, tokenizer: Any, seed: int, body: dict[str, Any] | None = None, **settings: Any) -> str:
    config = {**BODY, "model_type": "bert", **(body or {})}
    Encoder.from_random(config, tokenizer, seed=seed, max_length=128, **settings).save(folder)
    return str(folder)


@pytest.mark.parametrize(("weights", "shares"), [(None, (0.5, 0.5)), ([3, 1], (0.75, 0.25)), ([0, 2], (0, 1))])
def test_each_weight_is_the_mean(weights: Any, shares: tuple[float, float], tokenizer: Any, tmp_path: Path) -> None:
    first = made(tmp_path / "first", tokenizer, 1, query_prefix="", document_prefix="")
    second = made(tmp_path / "second", tokenizer, 2, query_prefix="query: ", document_prefix="passage: ")
    average.run([first, second], tmp_path / "mean", weights=weights)
    ours, theirs, mean = (load_file(Path(one) / "model.safetensors") for one in (first, second, tmp_path / "mean"))
    assert ours.keys() == mean.keys()
    for name, found in mean.items():
        expected = shares[0] * ours[name].double() + shares[1] * theirs[name].double()
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected.float(), rtol=0, atol=1e-7)
    encoder = Encoder.load(tmp_path / "mean")
    assert (encoder.query_prefix, encoder.document_prefix) == ("", "")
    outside = SentenceTransformer(str(tmp_path / "mean"), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(outside, encoder.embed_documents(TEXTS), atol=1e-5)


def test_the_mean_of_equal_models_is_that_model_bit_for_bit(tokenizer: Any, tmp_path: Path) -> None:
    model = made(tmp_path / "one", tokenizer, 1)
    average.run([model, model, model], tmp_path / "mean")
    assert Encoder.load(tmp_path / "mean").fingerprint() == Encoder.load(model).fingerprint()
    card = (tmp_path / "mean" / "README.md").read_text()
    assert card.count(f"| {model} | 0.333 |") == 3


def test_models_that_ship_can_be_averaged_with_their_own_rule(tmp_path: Path) -> None:
    average.run(["nano", "nano"], tmp_path / "mean")
    mean, nano = Encoder.load(tmp_path / "mean"), Encoder.load("nano")
    assert nano.evidence_rule is not None
    assert mean.evidence_rule == nano.evidence_rule
    np.testing.assert_allclose(mean.embed_queries(TEXTS), nano.embed_queries(TEXTS), atol=1e-6)


def test_a_rule_of_one_model_alone_is_not_that_of_the_mean(tokenizer: Any, tmp_path: Path) -> None:
    models = [made(tmp_path / name, tokenizer, seed) for name, seed in (("first", 1), ("second", 2))]
    write_evidence_rule(tmp_path / "first", EvidenceRule(words=12))
    average.run(models, tmp_path / "mean")
    assert Encoder.load(tmp_path / "first").evidence_rule == EvidenceRule(words=12)
    assert Encoder.load(tmp_path / "mean").evidence_rule is None


def test_what_cannot_be_averaged_is_refused(tokenizer: Any, tmp_path: Path, cli: Any) -> None:
    first = made(tmp_path / "first", tokenizer, 1)
    small = made(tmp_path / "small", tokenizer, 1, {"num_hidden_layers": 1})
    other = made(tmp_path / "cosine", tokenizer, 1, similarity="cosine")
    TwoEncoders(Encoder.load(first), Encoder.load(first)).save(tmp_path / "two")
    output = tmp_path / "out"
    cases: list[tuple[list[str], list[float] | None, str]] = [
        ([first], None, "an average of fewer than two models"),
        ([first, first], [1.0], "--weights has 1 numbers, and there are 2 models"),
        ([first, first], [1.0, -1.0], "--weights 1,-1: not above 0 in all, or negative"),
        ([first, first], [0.0, 0.0], "--weights 0,0: not above 0 in all"),
        ([first, first], [1.0, float("nan")], "--weights 1,nan"),
        ([first, small], None, f"its weights are not those of {first}: backbone.encoder.layer.1"),
        ([first, other], None, "normalize is True"),
        ([first, str(tmp_path / "two")], None, "the model has a separate query encoder"),
        ([first, str(tmp_path / "none")], None, "none"),
    ]
    for models, weights, message in cases:
        with pytest.raises(UserError) as error:
            average.run(models, output, weights=weights)
        assert message in str(error.value), message
        assert error.value.fix, message
        assert not output.exists()
    done = cli("average", first, first, "--weights", "2;1", "--output", output)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: --weights '2;1' is not a list of numbers\n")
    assert not output.exists()


def test_other_pieces_are_refused_and_a_model_in_the_output_is_kept(
    tokenizer: Any, sentences: dict[str, list[str]], tmp_path: Path
) -> None:
    train_tokenizer(sentences, tmp_path / "pieces", vocabulary=200)
    others = load_tokenizer(str(tmp_path / "pieces"))
    size = {"vocab_size": max(len(others), len(tokenizer))}
    first, second = made(tmp_path / "first", tokenizer, 1, size), made(tmp_path / "second", others, 1, size)
    with pytest.raises(UserError, match="its pieces are not those of"):
        average.run([first, second], tmp_path / "out")
    before = (tmp_path / "second" / "model.safetensors").read_bytes()
    with pytest.raises(UserError):
        average.run([first, first], tmp_path / "second")
    assert (tmp_path / "second" / "model.safetensors").read_bytes() == before
    average.run([first, first], tmp_path / "second", overwrite=True)
    assert Encoder.load(tmp_path / "second").fingerprint() == Encoder.load(first).fingerprint()
