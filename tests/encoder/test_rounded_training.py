"""Training as rounded: forwards against a model that was rounded before, gradients, and what a run saves."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from mcontriever.encoder import Encoder
from mcontriever.encoder.four_bit_blocks import KIND, rounded, takes_blocks
from mcontriever.encoder.rounded_training import feel_rounding, feels_rounding
from mcontriever.pretraining.momentum import MomentumEncoder
from mcontriever.tokens import pack, tokenize_texts
from mcontriever.training.compact_weights import compact_weights


def _batch(encoder: Encoder, texts: list[str]) -> Any:
    tokens = tokenize_texts(encoder.tokenizer, texts, 30)
    lengths_N = np.array([len(row) for row in tokens])
    return pack(np.concatenate([np.asarray(row) for row in tokens]), lengths_N, encoder.special, 2, 32)


def test_a_forward_is_that_of_the_rounded_weights_and_its_gradient_is_theirs(
    tiny_encoder_dir: Path, sentences: dict[str, list[str]]
) -> None:
    feeling, before = Encoder.load(tiny_encoder_dir, light=False), Encoder.load(tiny_encoder_dir, light=False)
    feel_rounding(feeling.backbone)
    assert feels_rounding(feeling)
    with torch.no_grad():
        for name, weight in before.backbone.named_parameters():
            if takes_blocks(name, weight):
                weight.copy_(rounded(weight))
    batch = _batch(feeling, sentences["en"])
    gradients = []
    for encoder in (feeling, before):
        embeddings_NH = encoder(batch)
        (embeddings_NH**2)[:, :7].sum().backward()
        gradients.append({name: weight.grad for name, weight in encoder.backbone.named_parameters()})
    assert torch.equal(feeling(batch), before(batch))
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        if gradient is not None:
            torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-5, atol=1e-7)
    rounds = [name for name, weight in before.backbone.named_parameters() if takes_blocks(name, weight)]
    assert "embeddings.word_embeddings.weight" in rounds
    assert len(rounds) > 5


def test_a_key_encoder_in_bfloat16_feels_rounding_too(tiny_encoder_dir: Path, sentences: dict[str, list[str]]) -> None:
    encoder = Encoder.load(tiny_encoder_dir, light=False, similarity="cosine")
    feel_rounding(encoder.backbone)
    batch = _batch(encoder, sentences["ar"])
    low = MomentumEncoder(encoder, momentum=0.999, compute_dtype=torch.bfloat16).encode(batch)
    with torch.no_grad():
        full = encoder(batch)
    assert low.dtype == torch.float32
    assert (low * full).sum(1).min() > 0.99
    assert not torch.equal(low, full)


def test_what_is_saved_is_as_rounded_and_packs_without_loss(
    tiny_encoder_dir: Path, tmp_path: Path, sentences: dict[str, list[str]]
) -> None:
    encoder = Encoder.load(tiny_encoder_dir, light=False)
    own = {name: weight.clone() for name, weight in encoder.backbone.state_dict().items()}
    feel_rounding(encoder.backbone)
    encoder.save(tmp_path / "saved")
    assert all(torch.equal(weight, own[name]) for name, weight in encoder.backbone.state_dict().items())
    stored = load_file(tmp_path / "saved" / "model.safetensors")
    changed = [name for name, weight in stored.items() if not torch.equal(weight, own[name])]
    assert changed == [name for name in stored if takes_blocks(name, own[name])]
    vectors_NH = encoder.embed_documents(sentences["sw"])
    saved = Encoder.load(tmp_path / "saved")
    np.testing.assert_allclose(saved.embed_documents(sentences["sw"]), vectors_NH, atol=1e-6)
    compact_weights(tmp_path / "saved", KIND)
    packed = Encoder.load(tmp_path / "saved")
    weights = dict(saved.backbone.named_parameters())
    for name, weight in packed.backbone.named_parameters():
        if takes_blocks(name, weight):
            assert torch.equal(weight, weights[name]), name
