"""What a query is compared with: the passages of all ranks, which of them is its own, and which are negatives.

Shapes: B queries of this rank, P passages of this rank, G passages of all ranks, H hidden, K known positives.
"""

from dataclasses import dataclass

import torch

from mcontriever.errors import RunError
from mcontriever.finetuning.triples import TripleBatch
from mcontriever.ranks import average, gather, gather_with_grad, rank


@dataclass(frozen=True, eq=False)
class Candidates:
    """`own_BG` marks each query's positive, `negative_BG` its negatives."""

    queries_BH: torch.Tensor
    passages_PH: torch.Tensor
    positives_BH: torch.Tensor
    passages_GH: torch.Tensor
    own_BG: torch.Tensor
    negative_BG: torch.Tensor


def candidates_of(embeddings: torch.Tensor, batch: TripleBatch) -> Candidates:
    """From the embeddings of the batch's queries and, after them, passages; passages are gathered with gradient."""
    queries_BH, passages_PH = embeddings.split([len(batch.queries), len(batch.passages)])
    passages_GH = gather_with_grad(passages_PH)
    own_BG, negative_BG = own_and_negatives(batch)
    positives_BH = passages_PH[:: batch.passages_per_query]
    return Candidates(queries_BH, passages_PH, positives_BH, passages_GH, own_BG, negative_BG)


def own_and_negatives(batch: TripleBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """(own_BG, negative_BG)"""
    keys_G = gather(batch.passage_keys_P)
    own_BG = _own(batch, len(keys_G))
    negative_BG = ~own_BG & ~_is_known_positive(batch.known_positives_BK, keys_G)
    refuse_nothing_to_contrast(negative_BG)
    return own_BG, negative_BG


def own_passages(own_BG: torch.Tensor, batch: TripleBatch) -> torch.Tensor:
    """BG: the positive and the hard negatives of each query; a query's passages are consecutive."""
    places_G = torch.arange(own_BG.shape[1], device=own_BG.device)
    behind_BG = places_G - own_BG.int().argmax(dim=1, keepdim=True)
    return (behind_BG >= 0) & (behind_BG < batch.passages_per_query)


def refuse_nothing_to_contrast(negative_BG: torch.Tensor) -> None:
    """All ranks agree, so none waits for another that has stopped."""
    if float(average(negative_BG.any().float())) == 0:
        raise RunError(
            f"a batch with nothing to contrast: {negative_BG.shape[0]} queries, and every one of the "
            f"{negative_BG.shape[1]} passages is a positive of each",
            fix="set deepspeed.train_micro_batch_size_per_gpu to 2 or more, or data.negatives to 1 or more",
        )


def _own(batch: TripleBatch, passages: int) -> torch.Tensor:
    """Rank r's query b owns passage r * P + b * (1 + n): a rank's passages are consecutive, and so are a query's."""
    device = batch.passage_keys_P.device
    rows_B = torch.arange(len(batch.queries), device=device)
    own_B = rank() * len(batch.passages) + rows_B * batch.passages_per_query
    return own_B[:, None] == torch.arange(passages, device=device)


def _is_known_positive(known_BK: torch.Tensor, keys_G: torch.Tensor) -> torch.Tensor:
    """Column by column, because all at once would need B * G * K bytes."""
    known_BG = torch.zeros(known_BK.shape[0], keys_G.shape[0], dtype=torch.bool, device=keys_G.device)
    for key_B in known_BK.unbind(dim=1):
        known_BG |= key_B[:, None] == keys_G
    return known_BG
