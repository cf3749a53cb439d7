"""8-bit inference: the products against float64, the model against float32, ranges kept with the model."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mcontriever.cpu_operators import can_int8
from mcontriever.encoder import Encoder, cpu_int8, texts_to_vectors
from mcontriever.errors import ModelError
from mcontriever.processor import missing_int8, multiplies_int8
from mcontriever.tokens import load_tokenizer

SIZE = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 128}


@pytest.fixture(scope="module")
def texts(sentences: dict[str, list[str]]) -> list[str]:
    return [text for group in sentences.values() for text in group] + ["", "a"]


def smallest_cosine(left_NH: np.ndarray, right_NH: np.ndarray) -> float:
    """Of the centred embeddings: what search ranks by, and stricter."""
    left_NH, right_NH = left_NH - left_NH.mean(0), right_NH - right_NH.mean(0)
    norms_N = np.linalg.norm(left_NH, axis=1) * np.linalg.norm(right_NH, axis=1)
    return float(((left_NH * right_NH).sum(1) / norms_N).min())


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu"])
@pytest.mark.parametrize("outliers", [False, True])
def test_int8_stays_close_to_float32(
    tiny_tokenizer_dir: Path, texts: list[str], activation: str, outliers: bool
) -> None:
    encoder = Encoder.from_random({**SIZE, "hidden_act": activation}, load_tokenizer(tiny_tokenizer_dir)).eval()
    if outliers:  # as XLM-R has them: few channels, tens of times the others
        for layer in encoder.backbone.encoder.layer:
            layer.output.LayerNorm.weight.data[7] = 20.0
            layer.attention.output.LayerNorm.bias.data[9] = 10.0
    exact = encoder.embed_documents(texts)
    encoder.precision = "int8"
    encoder.calibrate(texts[::2])
    assert smallest_cosine(encoder.embed_documents(texts), exact) > 0.99


def test_channel_scales_keep_small_channels_beside_a_large_one() -> None:
    generator = torch.Generator().manual_seed(0)
    values, weight = (torch.randn(size, 32, generator=generator) for size in (200, 16))
    values[:, 3] *= 100
    weight[:, 3] /= 100
    exact = values.double() @ weight.T.double()
    inputs = cpu_int8._ChannelScales(values.abs().amax(0), weight)
    linear = inputs.linear(weight, torch.zeros(16))
    error = (linear(inputs(values)) - exact).std() / exact.std()
    step = values.abs().max() / 127  # one scale for all channels, and the others drown
    naive = ((values / step).round() * step).double() @ weight.T.double()
    assert error < 0.02 < 0.1 < (naive - exact).std() / exact.std()


def test_ranges_are_learned_once_and_kept_with_the_model(
    tiny_encoder_dir: Path, texts: list[str], tmp_path: Path
) -> None:
    encoder = Encoder.load(tiny_encoder_dir, precision="int8")
    assert encoder.int8_ranges is None
    first = encoder.embed_documents(texts)
    ranges = encoder.int8_ranges
    assert ranges is not None
    encoder.embed_documents(["something else entirely"])
    assert encoder.int8_ranges is ranges
    np.testing.assert_array_equal(encoder.embed_documents(texts), first)
    loaded = Encoder.load(encoder.save(tmp_path / "calibrated"), precision="int8")
    np.testing.assert_array_equal(loaded.embed_documents(texts), first)
    assert loaded.fingerprint() == Encoder.load(tiny_encoder_dir).fingerprint()
    encoder.calibrate(["x"])
    assert not np.array_equal(encoder.embed_documents(texts), first)
    encoder.train()
    assert encoder.int8_ranges is None


def test_calibration_takes_a_spread_sample(
    tiny_encoder_dir: Path, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(texts_to_vectors, "CALIBRATION_TEXTS", 4)
    encoder = Encoder.load(tiny_encoder_dir)
    encoder.calibrate(texts)
    spread = encoder.int8_ranges
    encoder.calibrate(texts[::6])
    assert len(texts[::6]) == 4
    assert spread is not None
    assert encoder.int8_ranges is not None
    assert all(torch.equal(spread[name], encoder.int8_ranges[name]) for name in spread)


def test_int8_is_refused_where_it_cannot_be(tiny_tokenizer_dir: Path) -> None:
    config = {"model_type": "distilbert", "dim": 32, "n_layers": 1, "n_heads": 4, "hidden_dim": 64}
    encoder = Encoder.from_random(config, load_tokenizer(tiny_tokenizer_dir), precision="int8").eval()
    with pytest.raises(ModelError, match="int8 is for XLM-R, RoBERTa and BERT models; this is distilbert"):
        encoder.embed_queries(["a"])


def test_int8_without_8_bit_products_says_so_once(
    tiny_encoder_dir: Path, texts: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    cpu_int8._warn_without_int8.cache_clear()
    for _ in range(2):
        Encoder.load(tiny_encoder_dir, precision="int8").embed_documents(texts)
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(said) == (0 if can_int8() else 1)
    assert multiplies_int8() or f"this processor has no {missing_int8()}" in said[0]


def test_int8_of_a_bag_has_nothing_to_quantise(tiny_tokenizer_dir: Path) -> None:
    encoder = Encoder.from_random({**SIZE, "num_hidden_layers": 0}, load_tokenizer(tiny_tokenizer_dir)).eval()
    exact = encoder.embed_queries(["river"])
    encoder.precision = "int8"
    np.testing.assert_array_equal(encoder.embed_queries(["river"]), exact)
