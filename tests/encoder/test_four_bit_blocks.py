"""Blocks of four-bit numbers: against the nearest step of each block, against a known grid, and through a folder."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mcontriever import Encoder
from mcontriever.encoder.few_bits import pack, unpack_all
from mcontriever.encoder.four_bit_blocks import KIND, pack_blocks
from mcontriever.training.compact_weights import compact_weights

TABLE = torch.randn(20, 64, generator=torch.Generator().manual_seed(0))


def test_each_number_becomes_the_nearest_step_of_its_block() -> None:
    packed = pack_blocks("table", TABLE)
    assert packed[f"table.{KIND}"].nbytes == TABLE.numel() // 2
    found = unpack_all({**packed, "bias": TABLE[0]})
    assert found.keys() == {"table", "bias"}
    for row in range(20):
        for block in range(2):
            numbers = TABLE[row, 32 * block : 32 * block + 32]
            steps = (torch.arange(16) - 8) * packed["table.scale"][row, block].float()
            nearest = steps[(numbers[:, None] - steps).abs().argmin(1)]
            torch.testing.assert_close(found["table"][row, 32 * block : 32 * block + 32], nearest, rtol=0, atol=1e-6)


def test_blocks_round_less_than_rows() -> None:
    uneven = TABLE * torch.tensor([0.1, 1.0]).repeat_interleave(32)
    blocks, rows = unpack_all(pack_blocks("t", uneven))["t"], unpack_all(pack("t", uneven, "int4"))["t"]
    assert float((blocks - uneven).norm()) < 0.8 * float((rows - uneven).norm())


@pytest.mark.parametrize("largest", [-8, 7, 5])
def test_what_lies_on_a_grid_comes_back_to_the_bit(largest: int) -> None:
    generator = torch.Generator().manual_seed(1)
    scale = (0.01 * torch.rand(20, 2, 1, generator=generator) - 0.005).half().float()
    codes = torch.randint(-min(abs(largest), 7), min(abs(largest), 7) + 1, (20, 2, 32), generator=generator)
    codes[:, :, 3] = largest
    table = (codes * scale).reshape(20, 64)
    assert torch.equal(unpack_all(pack_blocks("table", table))["table"], table)
    assert not unpack_all(pack_blocks("table", torch.zeros(3, 32)))["table"].any()


def test_a_packed_model_opens_in_both_ways(
    tiny_encoder_dir: Path, tmp_path: Path, sentences: dict[str, list[str]]
) -> None:
    encoder = Encoder.load(tiny_encoder_dir)
    encoder.save(tmp_path / "packed")
    compact_weights(tmp_path / "packed", KIND)
    stored = load_file(tmp_path / "packed" / "model.safetensors")
    assert stored["embeddings.position_embeddings.weight"].dtype == torch.float32  # float16 would round it
    assert stored["encoder.layer.0.output.LayerNorm.weight"].dtype == torch.float16  # ones are ones
    light, heavy = Encoder.load(tmp_path / "packed", light=True), Encoder.load(tmp_path / "packed", light=False)
    ours = light.embed_queries(sentences["en"])
    np.testing.assert_allclose(heavy.embed_queries(sentences["en"]), ours, atol=1e-5)
    assert heavy.fingerprint() == light.fingerprint()
    again = tmp_path / "again"
    heavy.save(again)
    compact_weights(again, KIND)
    first, second = (unpack_all(load_file(one / "model.safetensors")) for one in (tmp_path / "packed", again))
    assert all(torch.equal(first[name], second[name]) for name in first)
