"""The objectives written as loops over pairs in float64: slow, plain, and differentiable by autograd."""

import torch


def naive_infonce(
    query_H: torch.Tensor, positive_H: torch.Tensor, negatives: list[torch.Tensor], temperature: float
) -> torch.Tensor:
    """-log softmax of the positive among itself and the negatives."""
    scores = [query_H.dot(positive_H) / temperature] + [query_H.dot(key) / temperature for key in negatives]
    highest = torch.stack(scores).max().detach()
    total = sum((score - highest).exp() for score in scores)
    return total.log() + highest - scores[0]


def naive_inbatch(
    queries_BH: torch.Tensor, keys_BH: torch.Tensor, texts: list[int], temperature: float, symmetric: bool = True
) -> torch.Tensor:
    """The loss of a whole batch, one way or both, omitting pairs of one text."""
    losses = []
    ways = [(queries_BH, keys_BH), *([(keys_BH, queries_BH)] if symmetric else [])]
    for one_side, other_side in ways:
        for row, text in enumerate(texts):
            negatives = [other_side[other] for other, its_text in enumerate(texts) if its_text != text]
            if negatives:
                losses.append(naive_infonce(one_side[row], other_side[row], negatives, temperature))
    return torch.stack(losses).mean()
