"""A table of vectors in two or four bits per number: `mcontriever export --weights int2` packs, every loader unpacks.

Each row has its own scale, chosen for the least squared error. A bag's text vector is the sum of many rows, so their
rounding errors mostly cancel; a model with layers is more sensitive.

In the file, "NAME.int2" holds the codes, 8 / bits per byte, and "NAME.scale" the scales of the rows.

Shapes: V rows, H numbers in a row, B bytes in a row.
"""

from collections.abc import Iterable, Mapping

import torch

from mcontriever.encoder import four_bit_blocks

BITS = {"int2": 2, "int4": 4}
KINDS = (*BITS, four_bit_blocks.KIND)
_TINY = 1e-30  # a row of zeros has scale 0 and remains zero
_CLIPS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)  # largest code / largest number of the row


def pack(name: str, table_VH: torch.Tensor, weights: str) -> dict[str, torch.Tensor]:
    """Codes and scales by their names in the file."""
    bits = BITS[weights]
    per_byte, levels = 8 // bits, 2**bits
    scale_V = _best_scales(table_VH, levels).half()
    codes_VH = _codes(table_VH, scale_V.float(), levels).to(torch.uint8)
    parts_VBP = codes_VH.reshape(len(table_VH), -1, per_byte)
    packed_VB = (parts_VBP << torch.arange(0, 8, bits, dtype=torch.uint8)).sum(dim=2, dtype=torch.uint8)
    return {f"{name}.{weights}": packed_VB, f"{name}.scale": scale_V}


def unpack_all(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A file's tensors by the model's names: packed tables, those of blocks too, as float32, others unchanged."""
    found = {}
    for name, tensor in tensors.items():
        plain, _, kind = name.rpartition(".")
        if kind in BITS:
            found[plain] = _unpack(tensor, tensors[f"{plain}.scale"], BITS[kind])
        elif kind == four_bit_blocks.KIND:
            found[plain] = four_bit_blocks.unpack_blocks(tensor, tensors[f"{plain}.scale"])
        elif not (kind == "scale" and any(f"{plain}.{weights}" in tensors for weights in KINDS)):
            found[name] = tensor
    return found


def is_packed(names: Iterable[str]) -> bool:
    return any(name.rpartition(".")[2] in KINDS for name in names)


def _unpack(packed_VB: torch.Tensor, scale_V: torch.Tensor, bits: int) -> torch.Tensor:
    """With a table of the numbers that each byte holds."""
    places = torch.arange(0, 8, bits)
    levels = 2**bits
    numbers_of_byte = ((torch.arange(256)[:, None] >> places) % levels).float() - (levels - 1) / 2
    return four_bit_blocks.numbers_of(packed_VB, numbers_of_byte).mul_(scale_V.float()[:, None])


def _codes(table_VH: torch.Tensor, scale_V: torch.Tensor, levels: int) -> torch.Tensor:
    """0 to levels - 1; code c means (c - (levels - 1) / 2) * scale."""
    return (table_VH / scale_V.clamp(min=_TINY)[:, None] + levels / 2).floor().clamp(0, levels - 1)


def _best_scales(table_VH: torch.Tensor, levels: int) -> torch.Tensor:
    largest_V = table_VH.abs().amax(1)
    candidates_CV = torch.stack([largest_V * clip / ((levels - 1) / 2) for clip in _CLIPS])
    errors_CV = torch.stack(
        [
            ((_codes(table_VH, scale_V, levels) - (levels - 1) / 2) * scale_V[:, None] - table_VH).square().sum(1)
            for scale_V in candidates_CV
        ]
    )
    return candidates_CV.gather(0, errors_CV.argmin(0)[None])[0]
