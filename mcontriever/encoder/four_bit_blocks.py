"""Tables in four bits a number with a scale for every 32 of them: 4.5 bits, and far less rounding than a scale a row.

A code c from 0 to 15 stands for (c - 8) scales, as in the 4-bit files that llama.cpp calls Q4_0. Weights that come from
such a file, or from any with 32 numbers on an even grid of these sixteen steps, are stored without any loss.

In the file, "NAME.int4-blocks" holds the codes, two in a byte, and "NAME.scale" the blocks' scales in float16.
Shapes: R rows, C columns, K blocks of 32 in all.
"""

import numpy as np
import torch

KIND = "int4-blocks"
BLOCK = 32
_ZERO = 8  # the code of zero
_ROWS_AT_ONCE = 4096  # numpy makes wide numbers of the bytes first
# The number of largest size is taken for so many steps; the negative side has one step more.
_LARGEST_IN_STEPS = (-8, -9, -10, 7, 6, 5, 4, 3, 2, 1)


def takes_blocks(name: str, table: torch.Tensor) -> bool:
    """Matrices and the table of pieces. Positions and segments are small, and every token carries their rounding."""
    small = name.endswith(("position_embeddings.weight", "token_type_embeddings.weight"))
    return table.dim() == 2 and table.shape[1] % BLOCK == 0 and not small


def pack_blocks(name: str, table_RC: torch.Tensor) -> dict[str, torch.Tensor]:
    """Codes and scales, under the names that they have in the file; each block's scale is the best of ten."""
    blocks_KB = table_RC.reshape(-1, BLOCK)
    largest_K = blocks_KB.gather(1, blocks_KB.abs().argmax(1, keepdim=True))[:, 0]
    scale_K = torch.zeros(len(blocks_KB), dtype=torch.float16)
    error_K = torch.full((len(blocks_KB),), torch.inf)
    for steps in _LARGEST_IN_STEPS:
        tried_K = (largest_K / steps).half() + 0.0  # no negative zero: the same numbers give the same bytes
        rounded_KB = (_codes(blocks_KB, tried_K.float()) - _ZERO) * tried_K.float()[:, None]
        tried_error_K = (rounded_KB - blocks_KB).square().sum(1)
        better_K = tried_error_K < error_K
        scale_K = torch.where(better_K, tried_K, scale_K)
        error_K = torch.where(better_K, tried_error_K, error_K)
    codes_RC = _codes(blocks_KB, scale_K.float()).to(torch.uint8).reshape(table_RC.shape)
    packed = codes_RC[:, 0::2] | (codes_RC[:, 1::2] << 4)
    return {f"{name}.{KIND}": packed, f"{name}.scale": scale_K.reshape(len(table_RC), -1)}


def rounded(table: torch.Tensor) -> torch.Tensor:
    """The table on a grid that `pack_blocks` stores without loss: a block's largest number is taken for -8 steps."""
    blocks_KB = table.reshape(-1, BLOCK)
    lowest_K, highest_K = blocks_KB.aminmax(dim=1)
    largest_K = torch.where(highest_K > -lowest_K, highest_K, lowest_K)
    scale_K = (largest_K / _LARGEST_IN_STEPS[0]).half().float()
    return ((_codes(blocks_KB, scale_K) - _ZERO) * scale_K[:, None]).view_as(table)


def unpack_blocks(packed: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """float32 [R, C], by a table of what each byte stands for."""
    byte = torch.arange(256)
    numbers_of_byte = torch.stack([byte & 15, byte >> 4], 1).float() - _ZERO
    blocks_KB = numbers_of(packed, numbers_of_byte).reshape(-1, BLOCK)
    return blocks_KB.mul_(scale.reshape(-1, 1).float()).reshape(len(packed), -1)


def numbers_of(packed: torch.Tensor, numbers_of_byte: torch.Tensor) -> torch.Tensor:
    """The two or four float32 that each byte stands for, in a row; copied as one value, seven times as fast."""
    whole = np.dtype({2: np.float64, 4: np.complex128}[numbers_of_byte.shape[1]])
    table = numbers_of_byte.numpy().view(whole)[:, 0]
    found = np.empty(packed.shape, dtype=whole)
    for row in range(0, len(packed), _ROWS_AT_ONCE):
        part = slice(row, row + _ROWS_AT_ONCE)
        np.take(table, packed[part].numpy(), out=found[part], mode="clip")
    return torch.from_numpy(found.view(np.float32))


def _codes(blocks_KB: torch.Tensor, scale_K: torch.Tensor) -> torch.Tensor:
    inverse_K = torch.where(scale_K == 0, 0.0, 1 / scale_K)
    return (blocks_KB * inverse_K[:, None] + _ZERO).round().clamp(0, 15)
