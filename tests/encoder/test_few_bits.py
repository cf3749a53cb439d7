"""Packed tables: against rounding number by number, and through a model's folder."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from mcontriever import Encoder
from mcontriever.encoder.few_bits import pack, unpack_all
from mcontriever.tokens import load_tokenizer
from mcontriever.training.compact_weights import compact_weights

TABLE = torch.randn(50, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("weights", "levels", "most"), [("int4", 16, 0.15), ("int2", 4, 0.45)])
def test_each_number_becomes_the_nearest_level_of_its_row(weights: str, levels: int, most: float) -> None:
    packed = pack("table", TABLE, weights)
    assert packed[f"table.{weights}"].nbytes * (8 // int(weights[-1])) == TABLE.numel()
    found = unpack_all({**packed, "bias": TABLE[0]})
    assert found.keys() == {"table", "bias"}
    scales = packed["table.scale"].float()
    for row, scale, numbers in zip(TABLE, scales, found["table"], strict=True):
        steps = (torch.arange(levels) - (levels - 1) / 2) * scale
        nearest = steps[(row[:, None] - steps).abs().argmin(1)]
        torch.testing.assert_close(numbers, nearest, rtol=0, atol=1e-6)
    assert float((found["table"] - TABLE).norm() / TABLE.norm()) < most


def test_rows_of_zeros_stay_zero() -> None:
    assert not unpack_all(pack("table", torch.zeros(3, 8), "int2"))["table"].any()


def test_a_packed_model_opens_in_both_ways(
    tiny_tokenizer_dir: Path, tmp_path: Path, sentences: dict[str, list[str]]
) -> None:
    bag = {"hidden_size": 256, "num_hidden_layers": 0, "num_attention_heads": 1, "intermediate_size": 1}
    architecture = {**bag, "token_weights": True, "initializer_range": 0.06}
    encoder = Encoder.from_random(architecture, load_tokenizer(tiny_tokenizer_dir), similarity="cosine", max_length=64)
    texts = [*sentences["en"], *sentences["ar"]]
    expected = encoder.embed_queries(texts)
    for weights, share, least in (("int4", 0.14, 0.985), ("int2", 0.08, 0.86)):
        folder = tmp_path / weights
        encoder.save(folder)
        whole_bytes = (folder / "model.safetensors").stat().st_size
        compact_weights(folder, weights)
        assert (folder / "model.safetensors").stat().st_size < share * whole_bytes
        light = Encoder.load(folder, light=True)
        ours = light.embed_queries(texts)
        assert float((expected * ours).sum(1).min()) > least
        heavy = Encoder.load(folder)
        np.testing.assert_allclose(heavy.embed_queries(texts), ours, atol=1e-6)
        assert heavy.fingerprint() == light.fingerprint()


def test_a_model_is_exported_anew(
    cli: Any, tiny_encoder_dir: Path, tmp_path: Path, sentences: dict[str, list[str]]
) -> None:
    done = cli("export", str(tiny_encoder_dir), "--output", str(tmp_path / "small"), "--weights", "int4")
    assert done.returncode == 0, done.stderr
    done = cli("export", str(tmp_path / "small"), "--output", str(tmp_path / "plain"))
    assert done.returncode == 0, done.stderr
    small, plain = (tmp_path / name / "model.safetensors" for name in ("small", "plain"))
    assert small.stat().st_mode == (tmp_path / "small" / "config.json").stat().st_mode
    assert small.stat().st_size < 0.3 * plain.stat().st_size
    ours = Encoder.load(tmp_path / "small").embed_queries(sentences["en"])
    theirs = SentenceTransformer(str(tmp_path / "plain"), device="cpu").encode(sentences["en"])
    np.testing.assert_allclose(theirs, ours, atol=1e-5)
