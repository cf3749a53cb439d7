"""The objective: with and without a contrastive loss, through a projection, and on two ranks."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mcontriever import ranks
from mcontriever.distillation.distil import Distil
from mcontriever.distillation.match import Match
from mcontriever.distillation.taught_batch import TaughtBatch
from mcontriever.pretraining.inbatch import InBatch
from mcontriever.pretraining.moco import MoCo
from mcontriever.pretraining.temperature import Temperature
from tests.pretraining.tiny_pairs import gradients, new_encoder, pair_batch
from tests.two_ranks import on_two_ranks

ROWS = 4
KINDS = ("alone", "inbatch", "moco", "questions")
MATCH = Match(cosine_weight=10, scores_weight=2, temperature=0.2, unit=True)


def objective_of(kind: str, folder: Path, teacher_dimension: int = 24) -> Distil:
    encoder = new_encoder(folder)
    temperature = Temperature(0.1, learned=True)
    contrast: Any = None
    if kind in ("inbatch", "questions"):
        contrast = InBatch(encoder, temperature=temperature)
    elif kind == "moco":
        contrast = MoCo(encoder, temperature=temperature, queue_size=21, momentum=0.8, batch_negatives=True)
    return Distil(
        encoder,
        match=MATCH,
        teacher_dimension=teacher_dimension,
        contrast=contrast,
        contrast_weight=0.5,
        rows_per_sub_batch=3 if kind == "inbatch" else None,
        seed=4,
    )


def batch_of(objective: Distil, kind: str, samples: Any, teacher_dimension: int = 24) -> TaughtBatch:
    pairs = pair_batch(objective.encoder, samples, texts=15)
    taught = objective._contrast[0].rows(pairs) if kind == "questions" else pairs.queries
    seeds = torch.cat([pairs.sample_B] * (2 if kind == "questions" else 1)).tolist()
    teacher = [torch.randn(teacher_dimension, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return TaughtBatch(
        taught=taught,
        teacher_NH=torch.stack(teacher),
        language_R=pairs.language_B,
        questions=len(pairs) if kind == "questions" else 0,
        contrasted=None if kind == "alone" else pairs,
        contrasts_taught_rows=kind == "questions",
    )


def loss_and_gradients(kind: str, folder: Path, samples: range | None) -> tuple[float, dict[str, torch.Tensor]]:
    objective = objective_of(kind, folder)
    if samples is None:
        samples = range(ranks.rank() * ROWS, (ranks.rank() + 1) * ROWS)
    loss, _ = objective(batch_of(objective, kind, samples))
    loss.backward()
    objective.after_update()
    return loss.item(), gradients(objective)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_averaged_over_two_ranks_equal_those_of_the_joined_batch(kind: str, tiny_tokenizer_dir: Path) -> None:
    loss, alone = loss_and_gradients(kind, tiny_tokenizer_dir, range(2 * ROWS))
    of_ranks = on_two_ranks(loss_and_gradients, kind, tiny_tokenizer_dir, None)
    assert sum(of_rank[0] for of_rank in of_ranks) / 2 == pytest.approx(loss, rel=1e-5)
    averaged = {name: (of_ranks[0][1][name] + of_ranks[1][1][name]) / 2 for name in alone}
    torch.testing.assert_close(averaged, alone, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_the_sum_of_its_parts(kind: str, tiny_tokenizer_dir: Path) -> None:
    objective = objective_of(kind, tiny_tokenizer_dir)
    batch = batch_of(objective, kind, range(8))
    loss, metrics = objective(batch)
    student = objective.encoder(batch.taught) @ objective.projection.weight.T  # type: ignore[union-attr]
    expected, _ = MATCH(student, batch.teacher_NH, batch.questions)
    if kind != "alone":
        contrast, _ = objective_of(kind, tiny_tokenizer_dir)._contrast[0](batch.contrasted)
        expected = expected + 0.5 * contrast
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    if kind != "alone":
        assert float(metrics["loss"]) == float(loss.detach())


def test_a_student_of_the_teachers_size_has_no_projection(tiny_tokenizer_dir: Path) -> None:
    objective = objective_of("alone", tiny_tokenizer_dir, teacher_dimension=16)
    assert objective.projection is None
    batch = batch_of(objective, "alone", range(4), teacher_dimension=16)
    own = replace(batch, teacher_NH=objective.encoder(batch.taught).detach())
    assert float(objective(own)[0].detach()) == pytest.approx(0, abs=1e-4)


def test_the_projection_begins_as_a_rotation(tiny_tokenizer_dir: Path) -> None:
    projection = objective_of("alone", tiny_tokenizer_dir).projection
    assert projection is not None
    torch.testing.assert_close(projection.weight.T @ projection.weight, torch.eye(16), rtol=0, atol=1e-5)


def test_every_weight_is_met_once_and_the_queue_is_state(tiny_tokenizer_dir: Path) -> None:
    objective = objective_of("moco", tiny_tokenizer_dir)
    names = [name for name, _ in objective.named_parameters()]
    assert "projection.weight" in names
    assert "temperature.log_scale" in names
    assert not [name for name in objective.state_dict() if "contrast" in name]
    objective(batch_of(objective, "moco", range(4)))
    objective.after_update()
    other = objective_of("moco", tiny_tokenizer_dir)
    other.load_state(objective.state())
    assert len(other._contrast[0].queue) == len(objective._contrast[0].queue) == 4
