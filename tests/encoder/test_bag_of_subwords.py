"""The short way through a weighted bag against Hugging Face's own forward, gradients included."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mcontriever.encoder import Encoder
from mcontriever.encoder.bag_of_subwords import is_plain_bag, unfold_token_weights
from mcontriever.tokens import PackedBatch, load_tokenizer, pack, tokenize_texts

BAG = {"hidden_size": 16, "num_hidden_layers": 0, "num_attention_heads": 1, "intermediate_size": 1}


def packed(encoder: Encoder, texts: list[str]) -> PackedBatch:
    flat, lengths = tokenize_texts(encoder.tokenizer, texts, 64)
    return pack(flat, lengths, encoder.special, encoder.first_position, 64)


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_embeddings_and_gradients_are_those_of_the_padded_forward(
    tiny_tokenizer_dir: Path, sentences: dict[str, list[str]], similarity: str
) -> None:
    architecture: dict[str, Any] = {**BAG, "token_weights": True, "hidden_dropout_prob": 0.0}
    encoder = Encoder.from_random(
        architecture, load_tokenizer(tiny_tokenizer_dir), similarity=similarity, max_length=64
    )
    assert encoder.token_weights is not None
    assert is_plain_bag(encoder.backbone)
    with torch.no_grad():
        encoder.token_weights.weight.uniform_(0.1, 2.0, generator=torch.Generator().manual_seed(0))
    batch = packed(encoder, [*sentences["en"], *sentences["zh"], ""])
    direction = torch.randn(len(batch), 16, generator=torch.Generator().manual_seed(1))
    results = []
    for forward in (encoder, encoder.forward_padded):
        encoder.zero_grad()
        embeddings = forward(batch)
        (embeddings * direction).sum().backward()
        gradients = [parameter.grad.clone() for parameter in encoder.parameters() if parameter.requires_grad]
        results.append((embeddings.detach(), gradients))
    (ours, our_gradients), (reference, reference_gradients) = results
    assert len(our_gradients) == 2
    torch.testing.assert_close(ours, reference, rtol=1e-5, atol=1e-6)
    for mine, theirs in zip(our_gradients, reference_gradients, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_layers_positions_and_dropout_take_the_general_way(tiny_tokenizer_dir: Path, tiny_encoder_dir: Path) -> None:
    tokenizer = load_tokenizer(tiny_tokenizer_dir)
    assert not is_plain_bag(Encoder.load(tiny_encoder_dir).backbone)
    assert not is_plain_bag(Encoder.from_random(BAG, tokenizer, max_length=64).backbone)
    dropping = Encoder.from_random({**BAG, "token_weights": True, "hidden_dropout_prob": 0.5}, tokenizer, max_length=64)
    assert not is_plain_bag(dropping.train().backbone)
    assert is_plain_bag(dropping.eval().backbone)


def test_float8_keeps_the_scores_and_opens_everywhere(
    tiny_tokenizer_dir: Path, tmp_path: Path, sentences: dict[str, list[str]]
) -> None:
    from sentence_transformers import SentenceTransformer

    from mcontriever.training.compact_weights import compact_weights

    architecture = {**BAG, "hidden_size": 64, "token_weights": True, "initializer_range": 0.0005}
    encoder = Encoder.from_random(architecture, load_tokenizer(tiny_tokenizer_dir), similarity="cosine", max_length=64)
    encoder.save(tmp_path / "model")
    whole_bytes = (tmp_path / "model" / "model.safetensors").stat().st_size
    compact_weights(tmp_path / "model", "float8")
    assert (tmp_path / "model" / "model.safetensors").stat().st_size < 0.35 * whole_bytes
    texts = [*sentences["en"], *sentences["ar"]]
    expected, ours = encoder.embed_queries(texts), Encoder.load(tmp_path / "model").embed_queries(texts)
    assert float((expected * ours).sum(1).min()) > 0.999
    theirs = SentenceTransformer(str(tmp_path / "model"), device="cpu").encode(texts)
    np.testing.assert_allclose(theirs, ours, atol=1e-5)


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_unfolding_undoes_folding_and_the_scale_of_an_export(
    tiny_tokenizer_dir: Path, tmp_path: Path, sentences: dict[str, list[str]], similarity: str
) -> None:
    architecture = {**BAG, "token_weights": True}
    encoder = Encoder.from_random(
        architecture, load_tokenizer(tiny_tokenizer_dir), similarity=similarity, max_length=64
    )
    texts = [*sentences["en"], *sentences["hi"]]
    with torch.no_grad():
        encoder.token_weights.weight.uniform_(0.1, 9.0)  # type: ignore[union-attr]
        if similarity == "cosine":
            encoder.backbone.get_input_embeddings().weight *= 300
    expected = encoder.eval().embed_queries(texts)
    encoder.save(tmp_path / "model")
    again = Encoder.load(tmp_path / "model")
    again.token_weights = unfold_token_weights(again.backbone, scale_free=similarity == "cosine")
    np.testing.assert_allclose(again.embed_queries(texts), expected, rtol=1e-4, atol=1e-6)
    assert float(again.token_weights.weight.detach().mean()) == pytest.approx(1, rel=1e-5)
    vectors = again.backbone.get_input_embeddings().weight.detach()
    lengths = vectors.norm(dim=1)[vectors.abs().amax(1) > 0]  # padding's vector is zero
    assert len(lengths) == len(vectors) - 1
    assert float(lengths.min()) == pytest.approx(float(lengths.max()), rel=1e-4)
    assert similarity == "dot" or float(lengths.mean()) == pytest.approx(1, rel=1e-4)
