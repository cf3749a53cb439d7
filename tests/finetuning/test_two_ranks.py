"""Two ranks with hard negatives against one rank on the joined batch: the losses' mean, and the averaged gradients."""

import copy
from pathlib import Path

import pytest
import torch

from mcontriever import ranks
from mcontriever.encoder import Encoder
from mcontriever.encoder.token_encoder import TokenEncoder
from mcontriever.encoder.two_encoders import TwoEncoders
from mcontriever.finetuning.contrastive import Contrastive
from mcontriever.finetuning.distillation import Distillation
from mcontriever.finetuning.late_interaction import LateInteraction
from mcontriever.finetuning.loss import Loss
from mcontriever.finetuning.passage_relation import PassageRelation
from tests.conftest import SENTENCES
from tests.finetuning.conftest import make_triple_batch
from tests.two_ranks import on_two_ranks

LATE = "late-of-two-ranks"
LOSSES: dict[str, Loss] = {
    "contrastive": Contrastive(temperature=0.7, dimensions=[8]),
    "passage_relation": PassageRelation(temperature=0.7, alpha=0.3),
    "pair_of_the_code": PassageRelation(temperature=0.7, alpha=0.3, passage_negatives="code"),
    "margin_mse": Distillation(loss="margin_mse", temperature=1.0, contrastive_weight=0.5),
    "late_interaction": LateInteraction(temperature=0.7, dimension=8),
    "late_margins": LateInteraction(loss="margin_mse", dimension=8),
    "two_encoders": Contrastive(temperature=0.7),
    "in_batch_teacher": Distillation(in_batch_teacher=LATE),
    "kl": Distillation(loss="kl", temperature=1.0),
}
QUERIES, NEGATIVES = 4, 2


def loss_and_gradient(encoder_dir: Path, name: str, rows: range) -> tuple[float, torch.Tensor, dict[str, float]]:
    """Of these queries of the joined batch, each with its positive and two negatives."""
    settings = LOSSES[name]
    late = isinstance(settings, LateInteraction)
    encoder = TokenEncoder.load(encoder_dir, dimension=8) if late else Encoder.load(encoder_dir, max_length=64)
    if name == "two_encoders":
        encoder = TwoEncoders(copy.deepcopy(encoder), encoder)
    if name == "in_batch_teacher":
        settings = settings.model_copy(update={"in_batch_teacher": str(encoder_dir.with_name(LATE))})
    texts = [text for group in SENTENCES.values() for text in group]
    passages = [texts[(3 * number + 5) % len(texts)] for number in range(QUERIES * (1 + NEGATIVES))]
    passages[7] = passages[0]  # a negative of query 2, of the second rank, is the positive of query 0, of the first
    scores = [((5 * number) % 7) / 3 for number in range(len(passages))]
    scores[4] = float("nan")  # unequally many scored pairs on the two ranks
    width = 1 + NEGATIVES
    chosen = slice(rows.start * width, rows.stop * width)
    batch = make_triple_batch(encoder, texts[rows.start : rows.stop], passages[chosen], scores=scores[chosen])
    objective = settings.model_copy(update={"rows_per_sub_batch": 5}).objective(encoder)
    loss, metrics = objective(batch)
    loss.backward()
    gradient = torch.cat([parameter.grad.flatten() for parameter in objective.parameters()])  # type: ignore[union-attr]
    return float(loss.detach()), gradient, {key: float(value) for key, value in metrics.items()}


def on_my_half(encoder_dir: Path) -> dict[str, tuple[float, torch.Tensor, dict[str, float]]]:
    first = ranks.rank() * QUERIES // 2
    return {name: loss_and_gradient(encoder_dir, name, range(first, first + QUERIES // 2)) for name in LOSSES}


@pytest.fixture(scope="module")
def of_two_ranks(tiny_encoder_dir: Path) -> list[dict[str, tuple[float, torch.Tensor, dict[str, float]]]]:
    TokenEncoder.load(tiny_encoder_dir, dimension=8).save(tiny_encoder_dir.with_name(LATE), overwrite=True)
    return on_two_ranks(on_my_half, tiny_encoder_dir)


@pytest.mark.parametrize("name", LOSSES)
def test_two_ranks_equal_one_on_the_joined_batch(
    of_two_ranks: list[dict[str, tuple[float, torch.Tensor, dict[str, float]]]], tiny_encoder_dir: Path, name: str
) -> None:
    loss, gradient, metrics = loss_and_gradient(tiny_encoder_dir, name, range(QUERIES))
    (loss_0, gradient_0, metrics_0), (loss_1, gradient_1, metrics_1) = (found[name] for found in of_two_ranks)
    assert (loss_0 + loss_1) / 2 == pytest.approx(loss, rel=1e-5)
    scale = float(gradient.abs().max())
    assert not torch.allclose(gradient_0, gradient_1, atol=1e-3 * scale)
    torch.testing.assert_close((gradient_0 + gradient_1) / 2, gradient, rtol=1e-4, atol=1e-5 * scale)
    assert (metrics_0["accuracy"] + metrics_1["accuracy"]) / 2 == metrics["accuracy"]
    assert (metrics_0["margin"] + metrics_1["margin"]) / 2 == pytest.approx(metrics["margin"], rel=1e-4)
