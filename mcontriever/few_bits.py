"""A table of vectors in two or four bits a number: `mcontriever export --weights int2` packs, every loader unpacks it.

Each row has a scale of its own, chosen for the least squared error. A text's vector is the sum of many rows, so what
rounding does to each of them mostly cancels out; a model with layers is less patient. `rounded` lets a model train with
the numbers that it will have (`encoder.round_to`), so that the others of a row make up for what one loses.

In the file, "NAME.int2" holds the codes, 8 / bits of them in a byte, and "NAME.scale" the rows' scales.

Shapes: V rows, H numbers in a row, B bytes in a row.
"""

from collections.abc import Iterable, Mapping

import torch

BITS = {"int2": 2, "int4": 4}
_TINY = 1e-30  # a row of zeros has scale 0 and stays zero
_STEPS = {4: 0.9957, 16: 0.3352}  # of so many levels, in standard deviations: the least error for a normal distribution
_FACTORS = (0.5, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.4, 1.8)  # and for rows that are not so normal


def pack(name: str, table_VH: torch.Tensor, weights: str) -> dict[str, torch.Tensor]:
    """Codes and scales, under the names that they have in the file."""
    bits = BITS[weights]
    per_byte, levels = 8 // bits, 2**bits
    scale_V = _best_scales(table_VH, levels).half()
    codes_VH = _codes(table_VH, scale_V.float(), levels).to(torch.uint8)
    parts_VBP = codes_VH.reshape(len(table_VH), -1, per_byte)
    packed_VB = sum(parts_VBP[:, :, place] << (bits * place) for place in range(per_byte))
    return {f"{name}.{weights}": packed_VB, f"{name}.scale": scale_V}


def unpack_all(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of a file by their models' names: packed tables as float32, the others as they are."""
    found = {}
    for name, tensor in tensors.items():
        plain, _, kind = name.rpartition(".")
        if kind in BITS:
            found[plain] = _unpack(tensor, tensors[f"{plain}.scale"], BITS[kind])
        elif not (kind == "scale" and any(f"{plain}.{weights}" in tensors for weights in BITS)):
            found[name] = tensor
    return found


def is_packed(names: Iterable[str]) -> bool:
    return any(name.rpartition(".")[2] in BITS for name in names)


def rounded(table_VH: torch.Tensor, weights: str) -> torch.Tensor:
    """What packing leaves of the numbers; the gradient passes as if they were untouched."""
    with torch.no_grad():
        levels = 2 ** BITS[weights]
        scale_V = _usual_scales(table_VH, levels)
        change_VH = _codes(table_VH, scale_V, levels).sub_((levels - 1) / 2).mul_(scale_V[:, None]).sub_(table_VH)
    return table_VH + change_VH


def _unpack(packed_VB: torch.Tensor, scale_V: torch.Tensor, bits: int) -> torch.Tensor:
    """By a table of what each byte stands for."""
    places = torch.arange(0, 8, bits)
    levels = 2**bits
    numbers_of_byte = ((torch.arange(256)[:, None] >> places) % levels).float() - (levels - 1) / 2
    table_VBP = numbers_of_byte[packed_VB.int()]
    return table_VBP.reshape(len(packed_VB), -1).mul_(scale_V.float()[:, None])


def _codes(table_VH: torch.Tensor, scale_V: torch.Tensor, levels: int) -> torch.Tensor:
    """0 to levels - 1; code c stands for (c - (levels - 1) / 2) scales."""
    return (table_VH / scale_V.clamp(min=_TINY)[:, None]).add_(levels / 2).floor_().clamp_(0, levels - 1)


def _usual_scales(table_VH: torch.Tensor, levels: int) -> torch.Tensor:
    return table_VH.square().mean(1).sqrt_().mul_(_STEPS[levels])


def _best_scales(table_VH: torch.Tensor, levels: int) -> torch.Tensor:
    usual_V = _usual_scales(table_VH, levels)
    candidates_CV = torch.stack([usual_V * factor for factor in _FACTORS])
    errors_CV = torch.stack(
        [
            ((_codes(table_VH, scale_V, levels) - (levels - 1) / 2) * scale_V[:, None] - table_VH).square().sum(1)
            for scale_V in candidates_CV
        ]
    )
    return candidates_CV.gather(0, errors_CV.argmin(0)[None])[0]
