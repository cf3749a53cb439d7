"""Store an exported model's large tables in fewer bytes; every reader converts them back to float32.

float16 halves the file, float8 (e4m3: 3 bits after the leading one) quarters it. Read by this package only are int4
and int2 (`few_bits.py`), an eighth and a sixteenth, and int4-blocks (`four_bit_blocks.py`), a seventh, for models with
layers. Tensors of one dimension (norms, biases) are kept. A bag of subwords with embeddings of length one is first
scaled to fill float8's range, which changes no score.
"""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import torch
from safetensors.torch import load_file, save_file

from mcontriever.disk import read_json
from mcontriever.encoder import four_bit_blocks
from mcontriever.encoder.few_bits import BITS, pack
from mcontriever.encoder.model_checksums import write_checksums
from mcontriever.encoder.saved_model import query_folder
from mcontriever.errors import ModelError

DTYPES = {"float16": torch.float16, "float8": torch.float8_e4m3fn}
_FLOAT8_MAX = 448.0
_WORDS = "embeddings.word_embeddings.weight"


def compact_weights(folder: Path, weights: str) -> None:
    """Rewrite the model file of `folder`, which nobody reads yet, and that of a query encoder in it."""
    of_queries = query_folder(folder)
    if of_queries is not None:
        compact_weights(of_queries, weights)
    file = folder / "model.safetensors"
    _rewrite(file, folder, weights)
    shutil.copymode(folder / "config.json", file)  # safetensors makes files that only their owner may read
    if weights == four_bit_blocks.KIND:
        _shorten_scores(folder / "tokenizer.json")
    write_checksums(folder)


def _rewrite(file: Path, folder: Path, weights: str) -> None:
    tensors = load_file(file)
    if weights in BITS:
        packed = [
            pack(name, tensor, weights) if tensor.dim() == 2 else {name: tensor} for name, tensor in tensors.items()
        ]
        save_file({name: tensor for one in packed for name, tensor in one.items()}, file, metadata={"format": "pt"})
        return
    if weights == four_bit_blocks.KIND:
        save_file(_blocks(tensors), file, metadata={"format": "pt"})
        return
    dtype = DTYPES[weights]
    if weights == "float8" and _is_scale_free(folder):
        largest = float(tensors[_WORDS].abs().max())
        tensors[_WORDS] *= 2.0 ** torch.tensor(_FLOAT8_MAX / largest).log2().floor()
    save_file(
        {name: _compact(name, tensor, dtype) for name, tensor in tensors.items()}, file, metadata={"format": "pt"}
    )


def _blocks(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What stays whole is halved where float16 holds the same numbers."""
    found: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        if four_bit_blocks.takes_blocks(name, tensor):
            found |= four_bit_blocks.pack_blocks(name, tensor)
        else:
            half = tensor.half()
            found[name] = half if torch.equal(half.float(), tensor) else tensor
    return found


def _shorten_scores(file: Path) -> None:
    """A Unigram vocabulary has float32 scores. In the digits of these, not of float64, they take half the space."""
    tokenizer = read_json(file)
    if tokenizer["model"].get("type") == "Unigram":
        pairs = tokenizer["model"]["vocab"]
        tokenizer["model"]["vocab"] = [[piece, np.float32(score)] for piece, score in pairs]
        file.write_bytes(orjson.dumps(tokenizer, option=orjson.OPT_SERIALIZE_NUMPY))


def _compact(name: str, tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    if tensor.dim() < 2:
        return tensor
    largest, most = float(tensor.abs().max()), float(torch.finfo(dtype).max)
    if largest > most:
        raise ModelError(
            f"{name} holds {largest:.4g}, the largest {dtype} is {most:.4g}", fix="export with --weights float32"
        )
    return tensor.to(dtype)


def _is_scale_free(folder: Path) -> bool:
    from mcontriever.encoder.new_backbone import is_weighted_bag

    config: dict[str, Any] = read_json(folder / "config.json")
    return is_weighted_bag(config) and (folder / "2_Normalize").is_dir()
