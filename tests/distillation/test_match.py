"""The loss against plain numpy, and what its metrics say."""

import numpy as np
import pytest
import torch

from mcontriever.distillation.match import Match


def naive_loss(
    student: np.ndarray,
    teacher: np.ndarray,
    questions: int,
    weights: tuple[float, float],
    temperature: float,
    unit: bool,
) -> float:
    cosines, divergences = [], []
    for own, wanted in zip(student, teacher, strict=True):
        cosines.append(own @ wanted / np.linalg.norm(own) / np.linalg.norm(wanted))
    if unit:
        student = student / np.linalg.norm(student, axis=1, keepdims=True)
        teacher = teacher / np.linalg.norm(teacher, axis=1, keepdims=True)
    keys = teacher[questions:]
    for row in range(questions or len(student)):
        ours = np.exp([student[row] @ key / temperature for key in keys])
        theirs = np.exp([teacher[row] @ key / temperature for key in keys])
        ours, theirs = ours / ours.sum(), theirs / theirs.sum()
        divergences.append(sum(p * np.log(p / q) for p, q in zip(theirs, ours, strict=True)))
    return float(weights[0] * (1 - np.mean(cosines)) + weights[1] * np.mean(divergences))


@pytest.mark.parametrize("unit", [True, False])
@pytest.mark.parametrize("questions", [0, 2])
@pytest.mark.parametrize("weights", [(10.0, 1.0), (0.0, 2.0), (3.0, 0.0)])
def test_the_loss_equals_the_loop(unit: bool, questions: int, weights: tuple[float, float]) -> None:
    generator = np.random.default_rng(5)
    student, teacher = generator.normal(size=(6, 8)), generator.normal(size=(6, 8))
    match = Match(cosine_weight=weights[0], scores_weight=weights[1], temperature=0.7, unit=unit)
    loss, _ = match(torch.tensor(student), torch.tensor(teacher), questions)
    expected = naive_loss(student, teacher, questions, weights, 0.7, unit)
    assert float(loss) == pytest.approx(expected, rel=1e-4)


def test_a_student_that_is_the_teacher_has_no_loss_and_a_blind_one_the_blind_loss() -> None:
    teacher = torch.randn(7, 8, generator=torch.Generator().manual_seed(1))
    match = Match(cosine_weight=10, scores_weight=1, temperature=0.1, unit=True)
    loss, metrics = match(teacher, teacher)
    assert float(loss) == pytest.approx(0, abs=1e-5)
    assert float(metrics["accuracy"]) == 1
    unit = torch.nn.functional.normalize(teacher, dim=1)
    blind, of_blind = match(unit.mean(0).expand(7, 8), teacher)
    assert float(blind) == pytest.approx(float(metrics["blind_loss"]), rel=1e-4)
    assert float(of_blind["accuracy"]) == pytest.approx(1 / 7) == metrics["chance"]


def test_a_question_is_right_when_its_own_passage_is_the_nearest() -> None:
    keys = torch.eye(6, 8)
    student = torch.cat([keys[[0, 3]], keys])  # two questions, each with three passages, its own first
    match = Match(cosine_weight=1, scores_weight=1, temperature=0.1, unit=True)
    assert float(match(student, student, questions=2)[1]["accuracy"]) == 1
    student[1] = keys[4]
    assert float(match(student, student, questions=2)[1]["accuracy"]) == 0.5
