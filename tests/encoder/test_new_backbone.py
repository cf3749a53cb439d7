"""Random backbones: bags of subwords, learned token weights, and embeddings taken from another checkpoint."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mcontriever.encoder import Encoder
from mcontriever.encoder.new_backbone import BAG_KEY, is_weighted_bag
from mcontriever.errors import ModelError
from mcontriever.tokenizer import train_tokenizer
from mcontriever.tokens import load_tokenizer, pack

BAG = {"hidden_size": 16, "num_hidden_layers": 0, "num_attention_heads": 2}
WEIGHTED_BAG = {**BAG, "token_weights": True}


@pytest.fixture(scope="module")
def tokenizer(tiny_tokenizer_dir: Path) -> Any:
    return load_tokenizer(tiny_tokenizer_dir)


def batch_of(encoder: Encoder, rows: list[list[int]]) -> Any:
    flat = np.array([token for row in rows for token in row], dtype=np.int64)
    return pack(flat, np.array([len(row) for row in rows]), encoder.special, encoder.first_position, 64)


def test_no_layers_is_the_mean_of_normed_embeddings(tokenizer: Any) -> None:
    encoder = Encoder.from_random(BAG, tokenizer, max_length=64).eval()
    own = encoder.backbone.embeddings
    ids = [0, 30, 40, 30, 2]
    table = own.word_embeddings.weight[ids] + own.position_embeddings.weight[2:7] + own.token_type_embeddings.weight[0]
    torch.testing.assert_close(encoder(batch_of(encoder, [ids[1:-1]]))[0], own.LayerNorm(table).mean(0))


def test_a_weighted_bag_is_the_weighted_mean_in_any_order(tokenizer: Any) -> None:
    encoder = Encoder.from_random(WEIGHTED_BAG, tokenizer, max_length=64).eval()
    assert encoder.token_weights is not None
    torch.nn.init.uniform_(encoder.token_weights.weight, 0.0, 4.0)
    vectors_VH = encoder.backbone.embeddings.word_embeddings.weight
    vectors_VH = vectors_VH - vectors_VH.mean(1, keepdim=True)
    ids = torch.tensor([0, 30, 40, 50, 2])
    expected = (vectors_VH[ids] * encoder.token_weights.weight[ids]).mean(0)
    embeddings = encoder(batch_of(encoder, [[30, 40, 50], [50, 30, 40]]))
    torch.testing.assert_close(embeddings[0], expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(embeddings[0], embeddings[1], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(embeddings, encoder.forward_padded(batch_of(encoder, [[30, 40, 50], [50, 30, 40]])))


def test_a_weighted_bag_trains_vectors_and_weights_alone_before_and_after_a_save(
    tokenizer: Any, tmp_path: Path
) -> None:
    encoder = Encoder.from_random(WEIGHTED_BAG, tokenizer, max_length=64)
    trained = {name for name, value in encoder.named_parameters() if value.requires_grad}
    assert trained == {"backbone.embeddings.word_embeddings.weight", "token_weights.weight"}
    encoder(batch_of(encoder, [[30, 40], [50]])).square().sum().backward()
    assert encoder.token_weights is not None
    assert encoder.token_weights.weight.grad[[30, 40, 50]].abs().min() > 0
    loaded = Encoder.load(encoder.save(tmp_path / "bag"))
    again = {name for name, value in loaded.named_parameters() if value.requires_grad}
    assert again == {"backbone.embeddings.word_embeddings.weight"}


def test_a_weighted_bag_is_known_by_a_key_and_one_of_version_0_1_by_its_norm(tokenizer: Any, tmp_path: Path) -> None:
    encoder = Encoder.from_random(WEIGHTED_BAG, tokenizer, max_length=64)
    file = encoder.save(tmp_path / "bag") / "config.json"
    config = json.loads(file.read_text())
    assert config[BAG_KEY] is True
    del config[BAG_KEY]
    file.write_text(json.dumps(config))
    assert is_weighted_bag(config)
    assert Encoder.load(tmp_path / "bag").fingerprint() == encoder.fingerprint()
    assert not is_weighted_bag({**config, BAG_KEY: False})
    assert not is_weighted_bag({**config, "num_hidden_layers": 1})
    assert not is_weighted_bag(vars(Encoder.from_random(BAG, tokenizer, max_length=64).backbone.config))


def test_without_positions_order_does_not_matter_to_layers_either(tokenizer: Any) -> None:
    layers = {"num_hidden_layers": 1, "intermediate_size": 32}
    for positions, same in ((False, True), (True, False)):
        config = {**BAG, **layers, "position_embeddings": positions}
        encoder = Encoder.from_random(config, tokenizer, max_length=64).eval()
        embeddings = encoder(batch_of(encoder, [[30, 40, 50], [50, 30, 40]]))
        assert torch.allclose(embeddings[0], embeddings[1], atol=1e-5) is same


def test_token_weights_need_a_bag(tokenizer: Any) -> None:
    with pytest.raises(ModelError, match="token_weights with num_hidden_layers 2"):
        Encoder.from_random({**WEIGHTED_BAG, "num_hidden_layers": 2}, tokenizer)
    distilbert = {"model_type": "distilbert", "dim": 16, "n_layers": 0, "n_heads": 2, "num_hidden_layers": 0}
    with pytest.raises(ModelError, match=r"a distilbert model has no embeddings\.token_type_embeddings\.weight"):
        Encoder.from_random({**distilbert, "token_weights": True}, tokenizer)


@pytest.fixture(scope="module")
def other_tokenizer(sentences: dict[str, list[str]], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Fewer scripts, other ids, some shared pieces."""
    folder = tmp_path_factory.mktemp("other") / "tokenizer"
    train_tokenizer({language: sentences[language] for language in ("en", "sw")}, folder, vocabulary=120)
    return load_tokenizer(folder)


def test_embeddings_start_from_another_checkpoint_piece_by_piece(tokenizer: Any, other_tokenizer: Any) -> None:
    encoder = Encoder.from_random(BAG, tokenizer, max_length=64, seed=1)
    before = encoder.backbone.embeddings.word_embeddings.weight.detach().clone()
    other = Encoder.from_random(BAG, other_tokenizer, max_length=64, seed=2)
    copied = encoder.start_embeddings(other)
    after, source = (each.backbone.embeddings.word_embeddings.weight for each in (encoder, other))
    known, shared = other_tokenizer.get_vocab(), 0
    for piece, index in tokenizer.get_vocab().items():
        expected = source[known[piece]] if piece in known else before[index]
        shared += piece in known
        assert torch.equal(after[index], expected), piece
    assert copied == shared
    assert 50 < shared < len(tokenizer)


def test_a_wider_checkpoint_gives_its_principal_components(tokenizer: Any, other_tokenizer: Any) -> None:
    """Vectors that lie in 16 of 40 dimensions keep all their dot products."""
    wide = Encoder.from_random({**BAG, "hidden_size": 40}, tokenizer, max_length=64)
    generator = torch.Generator().manual_seed(0)
    low_rank = torch.randn(len(tokenizer), 16, generator=generator) @ torch.randn(16, 40, generator=generator)
    wide.backbone.embeddings.word_embeddings.weight.data.copy_(low_rank)
    encoder = Encoder.from_random(BAG, tokenizer, max_length=64)
    assert encoder.start_embeddings(wide) == len(tokenizer)
    vectors = encoder.backbone.embeddings.word_embeddings.weight.detach()
    torch.testing.assert_close(vectors @ vectors.T, low_rank @ low_rank.T, atol=1e-2, rtol=1e-3)
    with pytest.raises(ModelError, match="are 16 wide, these 40"):
        wide.start_embeddings(encoder)
