"""The spread of embeddings against the definitions, written out over all pairs."""

import itertools

import pytest
import torch
from torch.nn.functional import normalize

from mcontriever.embedding_spread import spread


def test_the_numbers_are_those_of_the_definitions() -> None:
    generator = torch.Generator().manual_seed(0)
    queries, keys = torch.randn(7, 5, generator=generator) * 3, torch.randn(7, 5, generator=generator)
    unit_queries, unit_keys = normalize(queries, dim=-1), normalize(keys, dim=-1)
    pairs = list(itertools.combinations(range(7), 2))
    distances = [float((unit_queries[a] - unit_queries[b]).square().sum()) for a, b in pairs]
    expected = {
        "query_std": queries.var(0, correction=0).sqrt().mean(),
        "key_std": keys.var(0, correction=0).sqrt().mean(),
        "mean_cosine": torch.stack([unit_queries[a].dot(unit_queries[b]) for a, b in pairs]).mean(),
        "alignment": torch.stack([(a - b).square().sum() for a, b in zip(unit_queries, unit_keys, strict=True)]).mean(),
        "uniformity": (-2 * torch.tensor(distances)).exp().mean().log(),
    }
    found = spread(queries, keys)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert float(found[name]) == pytest.approx(float(value), rel=1e-4, abs=1e-6), name


def test_equal_rows_have_cosine_one_and_a_single_row_has_no_pairs() -> None:
    alike = torch.ones(6, 4)
    assert float(spread(alike, alike)["mean_cosine"]) == pytest.approx(1)
    assert float(spread(alike, alike)["query_std"]) == 0
    alone = spread(torch.ones(1, 4), torch.ones(1, 4))
    assert all(torch.isfinite(value) for value in alone.values())
