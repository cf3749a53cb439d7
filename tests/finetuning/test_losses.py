"""Every loss against a loop in float64 that follows its formula, over the same embeddings."""

import copy
import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from mcontriever.encoder import Encoder
from mcontriever.encoder.two_encoders import TwoEncoders
from mcontriever.errors import RunError
from mcontriever.finetuning.contrastive import Contrastive, info_nce
from mcontriever.finetuning.distillation import Distillation
from mcontriever.finetuning.passage_relation import PassageRelation
from mcontriever.finetuning.triple_objective import TripleObjective
from mcontriever.finetuning.triples import TripleBatch
from tests.finetuning.conftest import make_triple_batch

TEMPERATURE = 2.0


@pytest.fixture(scope="module")
def batch(tiny_encoder: Encoder, texts: list[str]) -> TripleBatch:
    """Four queries with a positive and two negatives; passage 4 (a negative of query 1) is query 0's positive too."""
    passages = texts[4:16]
    passages[4] = passages[0]
    known = [[passages[0]], [passages[3], passages[7]], [passages[6]], [passages[9]]]
    scores = np.random.default_rng(5).normal(size=12).tolist()
    return make_triple_batch(tiny_encoder, texts[:4], passages, known, scores)


def embeddings(encoder: Encoder, batch: TripleBatch) -> tuple[np.ndarray, np.ndarray]:
    with torch.no_grad():
        return tuple(encoder(side).double().numpy() for side in (batch.queries, batch.passages))  # type: ignore[return-value]


def known_columns(batch: TripleBatch) -> list[set[int]]:
    """For each query, the passages that are no negatives of it."""
    keys = batch.passage_keys_P.tolist()
    return [
        {column for column, key in enumerate(keys) if key in set(known)} for known in batch.known_positives_BK.tolist()
    ]


def nll(positive: float, negatives: Sequence[float]) -> float:
    return -math.log(math.exp(positive) / (math.exp(positive) + sum(math.exp(score) for score in negatives)))


def naive_contrastive(queries: np.ndarray, passages: np.ndarray, known: list[set[int]], temperature: float) -> float:
    losses = []
    for row, query in enumerate(queries):
        scores = [float(query @ passage) / temperature for passage in passages]
        losses.append(nll(scores[row * 3], [score for column, score in enumerate(scores) if column not in known[row]]))
    return sum(losses) / len(losses)


def loss_of(encoder: Encoder, loss: object, batch: TripleBatch) -> float:
    return float(TripleObjective(encoder=encoder, loss=loss)(batch)[0].detach())  # type: ignore[arg-type]


def test_contrastive(tiny_encoder: Encoder, batch: TripleBatch) -> None:
    queries, passages = embeddings(tiny_encoder, batch)
    expected = naive_contrastive(queries, passages, known_columns(batch), TEMPERATURE)
    assert known_columns(batch) == [{0, 4}, {3, 7}, {6}, {9}]
    assert loss_of(tiny_encoder, Contrastive(temperature=TEMPERATURE), batch) == pytest.approx(expected, rel=1e-5)


def test_contrastive_on_unit_length_prefixes(tiny_encoder: Encoder, batch: TripleBatch) -> None:
    encoder = Encoder(tiny_encoder.backbone, tiny_encoder.tokenizer, normalize=True, max_length=64)
    known, whole = known_columns(batch), embeddings(encoder, batch)
    expected = [naive_contrastive(*whole, known, 0.5)]
    for dimension in (8, 16):
        parts = [side[:, :dimension] / np.linalg.norm(side[:, :dimension], axis=1, keepdims=True) for side in whole]
        expected.append(naive_contrastive(parts[0], parts[1], known, 0.5))
    loss = Contrastive(temperature=0.5, dimensions=[8, 16])
    assert loss_of(encoder, loss, batch) == pytest.approx(sum(expected) / 3, rel=1e-5)


def test_negatives_far_above_the_positive_are_left_out(tiny_encoder: Encoder, batch: TripleBatch) -> None:
    queries, passages = embeddings(tiny_encoder, batch)
    scores = queries @ passages.T
    margin = float(np.median(scores - scores[np.arange(4), np.arange(4) * 3][:, None]))
    known = known_columns(batch)
    excluded = [
        known[row] | {column for column in range(12) if scores[row, column] > scores[row, row * 3] + margin}
        for row in range(4)
    ]
    assert sum(len(columns) for columns in excluded) > sum(len(columns) for columns in known)
    expected = naive_contrastive(queries, passages, excluded, TEMPERATURE)
    loss = Contrastive(temperature=TEMPERATURE, false_negative_margin=margin)
    assert loss_of(tiny_encoder, loss, batch) == pytest.approx(expected, rel=1e-5)


def test_gradient_is_exact_where_the_positive_dominates() -> None:
    """The loss is tiny there, and a softmax in float32 would round its gradient to nothing."""
    logits = torch.tensor([[30.0, 1.0, 2.0, 3.0]], requires_grad=True)
    own = torch.tensor([[True, False, False, False]])
    info_nce(logits, own, ~own).sum().backward()
    ratios = [math.exp(score - 30.0) for score in (1.0, 2.0, 3.0)]
    exact = [-sum(ratios) / (1 + sum(ratios)), *(ratio / (1 + sum(ratios)) for ratio in ratios)]
    assert logits.grad is not None
    np.testing.assert_allclose(logits.grad[0].double(), exact, rtol=1e-5)


@pytest.mark.parametrize("negatives", ["all", "paper", "code"])
def test_passage_relation(tiny_encoder: Encoder, batch: TripleBatch, negatives: str) -> None:
    queries, passages = embeddings(tiny_encoder, batch)
    known = known_columns(batch)
    keys, known_keys = batch.passage_keys_P.tolist(), batch.known_positives_BK.tolist()
    passage_losses, counts = [], []
    for row in range(4):
        positive = passages[row * 3]
        other_queries = [q for other, q in enumerate(queries) if keys[row * 3] not in known_keys[other]]
        other_passages = [passage for column, passage in enumerate(passages) if column not in known[row]]
        hard = [passages[column] for column in (row * 3 + 1, row * 3 + 2) if column not in known[row]]
        compared = {
            "all": [*other_queries, *other_passages],
            "paper": other_passages,
            "code": [*other_queries, *hard],
        }[negatives]
        scores = [float(positive @ other) / TEMPERATURE for other in compared]
        passage_losses.append(nll(float(positive @ queries[row]) / TEMPERATURE, scores))
        counts.append(len(compared))
    assert counts == {"all": [13, 13, 14, 14], "paper": [10, 10, 11, 11], "code": [5, 5, 5, 5]}[negatives]
    expected = 0.9 * naive_contrastive(queries, passages, known, TEMPERATURE) + 0.1 * sum(passage_losses) / 4
    loss = PassageRelation(temperature=TEMPERATURE, alpha=0.1, passage_negatives=negatives)
    assert loss_of(tiny_encoder, loss, batch) == pytest.approx(expected, rel=1e-5)
    blind = 0.9 * np.mean([math.log(13 - len(columns)) for columns in known])
    blind += 0.1 * np.mean([math.log(1 + count) for count in counts])
    _, metrics = TripleObjective(encoder=tiny_encoder, loss=loss)(batch)
    assert float(metrics["blind_loss"]) == pytest.approx(blind, rel=1e-5)


def with_scores(batch: TripleBatch, missing: list[int]) -> tuple[TripleBatch, np.ndarray]:
    from dataclasses import replace

    scores = batch.scores_P.clone()
    scores[missing] = float("nan")
    return replace(batch, scores_P=scores), scores.double().numpy()


def test_margin_mse(tiny_encoder: Encoder, batch: TripleBatch) -> None:
    scored, teacher = with_scores(batch, [2, 9])
    queries, passages = embeddings(tiny_encoder, batch)
    errors = []
    for row, query in enumerate(queries):
        for negative in (row * 3 + 1, row * 3 + 2):
            margin = float(query @ passages[row * 3] - query @ passages[negative]) / 0.5
            wanted = (teacher[row * 3] - teacher[negative]) / 3.0
            if not math.isnan(wanted):
                errors.append((margin - wanted) ** 2)
    assert len(errors) == 5
    loss = Distillation(loss="margin_mse", temperature=0.5, teacher_temperature=3.0)
    assert loss_of(tiny_encoder, loss, scored) == pytest.approx(sum(errors) / 5, rel=1e-5)


def test_kl_and_its_mix_with_the_contrastive_loss(tiny_encoder: Encoder, batch: TripleBatch) -> None:
    scored, teacher = with_scores(batch, [2, 9])
    queries, passages = embeddings(tiny_encoder, batch)
    divergences = []
    for row, query in enumerate(queries):
        columns = [row * 3 + column for column in range(3) if not math.isnan(teacher[row * 3 + column])]
        if row * 3 not in columns:
            continue
        model = np.exp([query @ passages[column] / TEMPERATURE for column in columns])
        wanted = np.exp([teacher[column] / 0.5 for column in columns])
        model, wanted = model / model.sum(), wanted / wanted.sum()
        divergences.append(sum(p * math.log(p / q) for p, q in zip(wanted, model, strict=True)))
    assert len(divergences) == 3
    contrastive = naive_contrastive(queries, passages, known_columns(batch), TEMPERATURE)
    loss = Distillation(loss="kl", temperature=TEMPERATURE, teacher_temperature=0.5, contrastive_weight=0.3)
    expected = sum(divergences) / 3 + 0.3 * contrastive
    assert loss_of(tiny_encoder, loss, scored) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "loss",
    [
        Contrastive(temperature=TEMPERATURE, dimensions=[8]),
        PassageRelation(temperature=TEMPERATURE, alpha=0.1),
        Distillation(loss="margin_mse", temperature=1.0),
        Distillation(loss="kl", temperature=1.0),
    ],
    ids=["contrastive", "passage_relation", "margin_mse", "kl"],
)
def test_sub_batched_equals_whole(tiny_encoder: Encoder, batch: TripleBatch, loss: object) -> None:
    found = []
    for rows in (None, 3):
        objective = TripleObjective(encoder=tiny_encoder, loss=loss, rows_per_sub_batch=rows)  # type: ignore[arg-type]
        objective.zero_grad()
        value, _ = objective(batch)
        value.backward()
        found.append((value.detach(), torch.cat([p.grad.flatten() for p in objective.parameters()])))  # type: ignore[union-attr]
    (whole, whole_gradient), (parts, parts_gradient) = found
    torch.testing.assert_close(parts, whole)
    torch.testing.assert_close(parts_gradient, whole_gradient, rtol=1e-4, atol=1e-6 * float(whole_gradient.abs().max()))


def test_metrics(tiny_encoder: Encoder, batch: TripleBatch) -> None:
    queries, passages = embeddings(tiny_encoder, batch)
    known, scores = known_columns(batch), queries @ passages.T
    best = [max(scores[row, column] for column in range(12) if column not in known[row]) for row in range(4)]
    positive = scores[np.arange(4), np.arange(4) * 3]
    _, metrics = TripleObjective(encoder=tiny_encoder, loss=Contrastive(temperature=1.0))(batch)
    assert float(metrics["accuracy"]) == np.mean(positive > best)
    assert float(metrics["margin"]) == pytest.approx(float(np.mean(positive - best)), abs=1e-3)
    assert float(metrics["positive_score"]) == pytest.approx(float(positive.mean()), rel=1e-4)
    negatives = [scores[row, column] for row in range(4) for column in range(12) if column not in known[row]]
    assert float(metrics["negative_score"]) == pytest.approx(float(np.mean(negatives)), rel=1e-4)
    assert float(metrics["chance"]) == pytest.approx(np.mean([1 / (13 - len(columns)) for columns in known]))
    blind = np.mean([math.log(13 - len(columns)) for columns in known])
    assert float(metrics["blind_loss"]) == pytest.approx(blind, rel=1e-5)
    assert float(metrics["query_std"]) == pytest.approx(float(queries.std(axis=0).mean()), rel=1e-4)


def test_a_batch_with_nothing_to_contrast_is_refused(tiny_encoder: Encoder, texts: list[str]) -> None:
    objective = TripleObjective(encoder=tiny_encoder, loss=Contrastive(temperature=1.0))
    with pytest.raises(RunError, match="nothing to contrast: 1 queries"):
        objective(make_triple_batch(tiny_encoder, texts[:1], texts[1:2]))
    same_positive = make_triple_batch(tiny_encoder, texts[:3], [texts[3]] * 3)
    with pytest.raises(
        RunError,
        match=r"every one of the 3 passages is a positive(.|\n)*per_gpu to 2 or more, or data.negatives to 1 or more",
    ):
        objective(same_positive)


def test_distillation_without_scores_is_refused(tiny_encoder: Encoder, texts: list[str]) -> None:
    objective = TripleObjective(encoder=tiny_encoder, loss=Distillation(loss="kl", temperature=1.0))
    with pytest.raises(RunError, match="no pair in the batch has a teacher's score"):
        objective(make_triple_batch(tiny_encoder, texts[:2], texts[2:6]))


def test_two_encoders_get_the_gradients_of_their_sides(tiny_encoder: Encoder, texts: list[str]) -> None:
    """Against torch's own cross-entropy over the vectors of two separate encoders."""
    sides = [copy.deepcopy(tiny_encoder).eval() for _ in range(2)]
    with torch.no_grad():
        sides[0].backbone.embeddings.word_embeddings.weight.mul_(0.5)
    batch = make_triple_batch(sides[0], texts[:3], texts[3:9])
    for rows_per_sub_batch in (None, 2):
        both = TwoEncoders(*sides)
        both.zero_grad()
        objective = TripleObjective(
            encoder=both, loss=Contrastive(temperature=TEMPERATURE), rows_per_sub_batch=rows_per_sub_batch
        )
        loss, _ = objective(batch)
        loss.backward()
        found = [[parameter.grad.clone() for parameter in side.parameters()] for side in (both.queries, both)]
        found[1] = found[1][: len(found[0])]  # the passages' own come first
        both.zero_grad()
        scores_BP = sides[0](batch.queries) @ sides[1](batch.passages).T / TEMPERATURE
        expected = torch.nn.functional.cross_entropy(scores_BP, torch.tensor([0, 2, 4]))
        expected.backward()
        assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
        for side, gradients in zip(sides, found, strict=True):
            torch.testing.assert_close(gradients, [p.grad for p in side.parameters()], rtol=1e-3, atol=1e-6)
