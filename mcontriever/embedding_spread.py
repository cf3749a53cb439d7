"""Statistics of embeddings that show a collapse before a benchmark does.

Shapes: B rows, H hidden.
"""

import torch
from torch.nn.functional import normalize

ROWS_FOR_UNIFORMITY = 512  # it compares all pairs


@torch.no_grad()
def spread(queries_BH: torch.Tensor, keys_BH: torch.Tensor) -> dict[str, torch.Tensor]:
    """Row i of the keys belongs to row i of the queries. Alignment and uniformity as Wang and Isola define them."""
    unit_queries_BH, unit_keys_BH = normalize(queries_BH.float(), dim=-1), normalize(keys_BH.float(), dim=-1)
    return {
        "query_std": queries_BH.float().std(0, correction=0).mean(),
        "key_std": keys_BH.float().std(0, correction=0).mean(),
        "mean_cosine": mean_pairwise_cosine(unit_queries_BH),
        "alignment": (unit_queries_BH - unit_keys_BH).square().sum(-1).mean(),
        "uniformity": _uniformity(unit_queries_BH[:ROWS_FOR_UNIFORMITY]),
    }


def mean_pairwise_cosine(unit_rows_BH: torch.Tensor) -> torch.Tensor:
    """Over all pairs of different rows: |sum of rows|^2 = B + the sum over pairs."""
    rows = len(unit_rows_BH)
    return (unit_rows_BH.sum(0).square().sum() - rows) / max(rows * (rows - 1), 1)


def _uniformity(unit_rows_BH: torch.Tensor) -> torch.Tensor:
    if len(unit_rows_BH) < 2:
        return torch.zeros((), device=unit_rows_BH.device)
    return torch.pdist(unit_rows_BH).square().mul(-2).exp().mean().log()
