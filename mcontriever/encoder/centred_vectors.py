"""Subtract the mean vector of texts: what all texts share is then no evidence that two of them are alike.

The last LayerNorm's bias takes the mean. It reaches every token alike, so the vector of a text, whether the mean of its
tokens or its first, moves by the same amount, and the model stays an ordinary one. Shapes: L languages, H hidden.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mcontriever.encoder.encoder import Encoder
from mcontriever.encoder.packed_forward import can_pack
from mcontriever.errors import DataError, ModelError


def last_norm(backbone: Any, *, where: object = None) -> torch.nn.LayerNorm:
    """What makes the hidden states of the last layer."""
    layers = backbone.encoder.layer if can_pack(backbone.config) else []
    norm = layers[-1].output.LayerNorm if len(layers) else None
    if not isinstance(norm, torch.nn.LayerNorm) or norm.bias is None:
        what = "--center needs layers that end in a LayerNorm, as those of BERT, RoBERTa and XLM-R do"
        raise ModelError(what, where=where, fix="omit --center")
    return norm


def center(encoder: Encoder, texts: Mapping[str, Sequence[str]]) -> None:
    """In place. Each language counts as much as any other, however many of its texts are here."""
    norm = last_norm(encoder.backbone)
    if sum(map(len, texts.values())) < 2:
        raise DataError("--center needs the vectors of two texts or more", fix="give more text, or omit --center")
    was, encoder.normalize = encoder.normalize, False  # the mean is of vectors before they get length one
    try:
        mean_H = _mean_of_means([encoder.embed_documents(rows) for rows in texts.values() if rows])
    finally:
        encoder.normalize = was
    with torch.no_grad():
        norm.bias.sub_(torch.from_numpy(mean_H).to(norm.bias))


def _mean_of_means(vectors_of: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float64]:
    means_LH = np.stack([vectors_NH.mean(0, dtype=np.float64) for vectors_NH in vectors_of])
    mean_H: npt.NDArray[np.float64] = means_LH.mean(0)
    return mean_H
