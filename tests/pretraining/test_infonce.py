"""The chunked InfoNCE against a loop in float64: values, gradients, masks, and the memory that is its reason."""

from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from mcontriever.pretraining.infonce import ANY_LANGUAGE, CHUNK_KEYS, Contrast, Negatives, infonce
from tests.pretraining.naive import naive_infonce

H = 24


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    return normalize(torch.randn(*shape, H, generator=torch.Generator().manual_seed(seed)), dim=-1)


def keys(
    count: int, *, seed: int = 1, dtype: torch.dtype = torch.float32, texts: Any = None, languages: Any = None
) -> Negatives:
    return Negatives(
        unit(count, seed=seed).to(dtype),
        torch.arange(1000, 1000 + count) if texts is None else texts,
        torch.zeros(count, dtype=torch.long) if languages is None else languages,
    )


def run(
    queries: torch.Tensor, positives: torch.Tensor, negatives: list[Negatives], temperature: Any = 0.05, **labels: Any
) -> tuple[Contrast, torch.Tensor]:
    queries = queries.clone().requires_grad_()
    labels.setdefault("text_B", torch.arange(len(queries)))
    contrast = infonce(queries, positives, negatives, 1 / temperature, **labels)
    contrast.loss_Bn.mean().backward()
    return contrast, queries.grad


def reference(
    queries: torch.Tensor, positives: torch.Tensor, keys_KH: torch.Tensor, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    queries = queries.double().requires_grad_()
    negatives = list(keys_KH.double())
    loss = torch.stack(
        [
            torch.stack([naive_infonce(query, positive, negatives, temperature) for positive in own])
            for query, own in zip(queries, positives.double(), strict=True)
        ]
    )
    loss.mean().backward()
    return loss.detach(), queries.grad


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.double() - expected).norm() / expected.norm())


def positives_at(queries: torch.Tensor, cosine: float, count: int = 2) -> torch.Tensor:
    noise = unit(len(queries), count, seed=7)
    noise = normalize(noise - (noise * queries[:, None]).sum(-1, keepdim=True) * queries[:, None], dim=-1)
    return cosine * queries[:, None] + (1 - cosine**2) ** 0.5 * noise


@pytest.mark.parametrize("cosine", [-0.5, 0.2, 0.9, 0.9999], ids=["below", "like", "above", "dominates"])
@pytest.mark.parametrize("temperature", [0.05, 1.0])
def test_values_and_gradients_equal_the_loop(cosine: float, temperature: float) -> None:
    queries, negatives = unit(3), keys(70)
    positives = positives_at(queries, cosine)
    contrast, gradient = run(queries, positives, [negatives], temperature)
    loss, expected = reference(queries, positives, negatives.keys_KH, temperature)
    torch.testing.assert_close(contrast.loss_Bn.detach().double(), loss, rtol=2e-5, atol=0)
    assert relative_error(gradient, expected) < 2e-5


def test_a_dominating_positive_keeps_the_digits_that_cross_entropy_loses() -> None:
    """Over 20,000 keys, so in several chunks, the last of them not full."""
    queries, negatives = unit(4), keys(20_000)
    positives = positives_at(queries, 0.98, count=1)
    temperature = 0.03
    _, gradient = run(queries, positives, [negatives], temperature)

    exact = queries.double().requires_grad_()
    scores = torch.cat([(exact * positives[:, 0]).sum(1, keepdim=True), exact @ negatives.keys_KH.double().T], 1)
    cross_entropy(scores / temperature, torch.zeros(4, dtype=torch.long)).backward()
    plain = queries.clone().requires_grad_()
    scores = torch.cat([(plain * positives[:, 0]).sum(1, keepdim=True), plain @ negatives.keys_KH.T], 1)
    cross_entropy(scores / temperature, torch.zeros(4, dtype=torch.long)).backward()
    assert relative_error(gradient, exact.grad) < 2e-5
    assert relative_error(plain.grad, exact.grad) > 1e-3


def test_bfloat16_keys_are_close_where_many_negatives_share_the_weight() -> None:
    queries, negatives = unit(4), keys(3 * CHUNK_KEYS + 5, dtype=torch.bfloat16)
    positives = positives_at(queries, 0.5, count=1)
    _, gradient = run(queries, positives, [negatives], 0.2)
    exact = queries.double().requires_grad_()
    scores = torch.cat([(exact * positives[:, 0]).sum(1, keepdim=True), exact @ negatives.keys_KH.double().T], 1)
    cross_entropy(scores / 0.2, torch.zeros(4, dtype=torch.long)).backward()
    assert relative_error(gradient, exact.grad) < 1e-3


def test_autocast_around_it_changes_nothing() -> None:
    queries, negatives = unit(3), keys(50)
    positives = positives_at(queries, 0.5)
    contrast, gradient = run(queries, positives, [negatives])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside, inside_gradient = run(queries, positives, [negatives])
    assert torch.equal(contrast.loss_Bn, inside.loss_Bn)
    assert torch.equal(gradient, inside_gradient)


def test_own_texts_are_no_negatives_wherever_they_stand() -> None:
    queries = unit(3)
    positives = positives_at(queries, 0.3, count=1)
    count = CHUNK_KEYS + 40
    texts = torch.arange(1000, 1000 + count)
    texts[5], texts[count - 2], texts[count - 1] = 0, 1, 0
    negatives, extra = keys(count, texts=texts), keys(4, seed=3, texts=torch.tensor([2, 0, 9, 9]))
    contrast, _ = run(queries, positives, [negatives, extra])
    for row in range(3):
        met = torch.cat([negatives.keys_KH[texts != row], extra.keys_KH[extra.text_K != row]])
        assert contrast.negatives_B[row] == len(met)
        exact = torch.logsumexp((queries[row].double() @ met.double().T) / 0.05, 0)
        own = queries[row].double() @ positives[row, 0].double() / 0.05
        torch.testing.assert_close(contrast.loss_Bn[row, 0].double(), torch.nn.functional.softplus(exact - own))
        mean = float((queries[row].double() @ met.double().T).mean())
        assert float(contrast.negative_score_B[row]) == pytest.approx(mean, abs=1e-5)


def test_a_query_meets_negatives_of_its_language_only() -> None:
    queries = unit(4)
    positives = positives_at(queries, 0.3, count=1)
    negatives = keys(60, languages=torch.arange(60) % 3)
    language_B = torch.tensor([0, 2, ANY_LANGUAGE, 7])
    contrast, gradient = run(queries, positives, [negatives], language_B=language_B)
    assert contrast.negatives_B.tolist() == [20, 20, 60, 0]
    assert contrast.loss_Bn[3].item() == 0
    assert gradient.isfinite().all()
    assert not gradient[3].any()
    for row, met in ((0, negatives.keys_KH[0::3]), (1, negatives.keys_KH[2::3]), (2, negatives.keys_KH)):
        loss, expected = reference(queries[row : row + 1], positives[row : row + 1], met, 0.05)
        torch.testing.assert_close(contrast.loss_Bn[row].detach().double(), loss[0], rtol=2e-5, atol=0)
        assert relative_error(gradient[row] * 4, expected[0]) < 2e-5


def test_a_learned_scale_gets_its_gradient() -> None:
    queries, negatives = unit(3), keys(50)
    positives = positives_at(queries, 0.5)
    temperature = torch.tensor(0.1, requires_grad=True)
    run(queries, positives, [negatives], temperature)
    exact = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    losses = [
        naive_infonce(query, positive, list(negatives.keys_KH.double()), exact)  # type: ignore[arg-type]
        for query, own in zip(queries.double(), positives.double(), strict=True)
        for positive in own
    ]
    torch.stack(losses).mean().backward()
    assert float(temperature.grad) == pytest.approx(float(exact.grad), rel=1e-4)


def test_correct_means_above_all_negatives_and_a_tie_is_not() -> None:
    queries = unit(2)
    same = Negatives(queries[:1].repeat(3, 1), torch.tensor([50, 51, 52]), torch.zeros(3, dtype=torch.long))
    positives = queries[:, None]
    contrast, _ = run(queries, positives, [same])
    assert contrast.correct_Bn.tolist() == [[False], [True]]
    constant = normalize(torch.ones(2, H) + 1e-7 * unit(2), dim=-1)
    all_alike = Negatives(constant[:1].repeat(3, 1), same.text_K, same.language_K)
    for dtype in (torch.float32, torch.bfloat16):
        alike = Negatives(all_alike.keys_KH.to(dtype), same.text_K, same.language_K)
        assert not run(constant, constant[:, None], [alike])[0].correct_Bn.any()


def test_memory_is_that_of_one_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's own profiler counts the bytes; the plain form needs the whole matrix of scores, several times."""
    queries, negatives = unit(64), keys(40 * CHUNK_KEYS)
    positives = positives_at(queries, 0.5, count=1)
    ours = peak_bytes(lambda: run(queries, positives, [negatives]))

    def plain() -> None:
        rows = queries.clone().requires_grad_()
        scores = torch.cat([(rows * positives[:, 0]).sum(1, keepdim=True), rows @ negatives.keys_KH.T], 1)
        cross_entropy(scores / 0.05, torch.zeros(64, dtype=torch.long)).backward()

    assert ours * 20 < peak_bytes(plain)


def peak_bytes(work: Any) -> int:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        work()
    total = peak = 0
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        total += event.nbytes()
        peak = max(peak, total)
    return peak
