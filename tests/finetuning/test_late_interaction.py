"""Late interaction against loops over tokens, against sentence-transformers, and as TAS-B's in-batch teacher."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset

from mcontriever.encoder import Encoder
from mcontriever.encoder.token_encoder import TokenEncoder
from mcontriever.errors import ModelError
from mcontriever.evaluation.models import encoder_search
from mcontriever.finetuning import maxsim as maxsim_file
from mcontriever.finetuning.distillation import Distillation
from mcontriever.finetuning.late_interaction import LateInteraction
from mcontriever.finetuning.triples import TripleBatch
from mcontriever.tokens import PackedBatch
from tests.evaluation.test_mteb_encoder import CONTEXT
from tests.finetuning.conftest import make_triple_batch


@pytest.fixture(scope="module")
def late(tiny_encoder_dir: Path) -> TokenEncoder:
    encoder = TokenEncoder.load(tiny_encoder_dir, dimension=8, query_prefix="q: ", document_prefix="p: ")
    with torch.no_grad():  # random weights put all tokens at one point
        for parameter in encoder.backbone.parameters():
            if parameter.dim() == 2:
                parameter.mul_(8)
    return encoder


@pytest.fixture(scope="module")
def folder(late: TokenEncoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return late.save(tmp_path_factory.mktemp("late") / "model")


@pytest.fixture(scope="module")
def batch(late: TokenEncoder, texts: list[str]) -> TripleBatch:
    """Three queries, each with its positive and a negative; passage 3 answers query 0 too."""
    passages = texts[4:10]
    known = [[passages[0], passages[3]], [passages[2]], [passages[4]]]
    return make_triple_batch(late, texts[:3], passages, known, np.random.default_rng(3).normal(size=6).tolist())


def rows(vectors_TD: torch.Tensor, side: PackedBatch) -> list[torch.Tensor]:
    return list(vectors_TD.split(side.lengths_N.tolist()))


def naive_scores(encoder: TokenEncoder, batch: TripleBatch) -> torch.Tensor:
    """The sum over a query's tokens of the best cosine with a token of the passage, pair by pair."""
    queries, passages = (rows(encoder(side).double(), side) for side in (batch.queries, batch.passages))
    return torch.stack([torch.stack([sum(max_of(q, p)) for p in passages]) for q in queries])


def max_of(query: torch.Tensor, passage: torch.Tensor) -> list[torch.Tensor]:
    return [max((token.dot(other) for other in passage), key=lambda score: score.item()) for token in query]


@pytest.mark.parametrize("at_once", [1 << 26, 1])
def test_the_loss_is_the_cross_entropy_of_naive_scores(
    late: TokenEncoder, batch: TripleBatch, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(maxsim_file, "PRODUCTS_AT_ONCE", at_once)
    late.zero_grad()
    loss, metrics = LateInteraction(temperature=0.5).objective(late)(batch)
    loss.backward()
    found = [parameter.grad.clone() for parameter in late.parameters()]
    late.zero_grad()
    logits = naive_scores(late, batch) / 0.5
    logits = logits.masked_fill(torch.eye(3, 6, dtype=torch.bool).roll(3, 1) & (torch.arange(3) == 0)[:, None], -1e9)
    expected = torch.nn.functional.cross_entropy(logits, torch.tensor([0, 2, 4]))
    expected.backward()
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    torch.testing.assert_close(found, [p.grad for p in late.parameters()], rtol=1e-3, atol=1e-5)
    assert float(metrics["chance"]) == pytest.approx((1 / 5 + 1 / 6 + 1 / 6) / 3)


@torch.no_grad()
def test_margins_are_those_of_the_cross_encoder(late: TokenEncoder, batch: TripleBatch) -> None:
    loss, _ = LateInteraction(loss="margin_mse", teacher_temperature=2.0).objective(late)(batch)
    scores, teacher = naive_scores(late, batch), batch.scores_P.double() / 2
    errors = [
        (scores[row, 2 * row] - scores[row, 2 * row + 1] - (teacher[2 * row] - teacher[2 * row + 1])) ** 2
        for row in range(3)
    ]
    assert float(loss) == pytest.approx(float(sum(errors)) / 3, rel=1e-4)


@torch.no_grad()
def test_the_in_batch_teacher_adds_its_margins_over_other_queries_passages(
    late: TokenEncoder, folder: Path, batch: TripleBatch
) -> None:
    """As TAS-B's code: half the mean over others' positives, half over others' negatives; known answers left out."""
    student = Encoder(late.backbone, late.tokenizer, query_prefix="q: ", document_prefix="p: ", max_length=64).eval()
    settings: dict[str, Any] = {"temperature": 2.0, "teacher_temperature": 3.0}
    alone, _ = Distillation(**settings).objective(student)(batch)
    both, metrics = Distillation(**settings, in_batch_teacher=str(folder)).objective(student)(batch)
    scores = (student(batch.queries) @ student(batch.passages).T).double() / 2
    teacher = naive_scores(late, batch) / 3
    errors = [
        (scores[row, 2 * row] - scores[row, other] - (teacher[row, 2 * row] - teacher[row, other])) ** 2
        for row in range(3)
        for other in range(6)
        if other // 2 != row and (row, other) != (0, 3)
    ]
    expected = float(sum(errors)) / len(errors)
    assert float(metrics["in_batch_loss"]) == pytest.approx(expected, rel=1e-4)
    assert float(both) == pytest.approx(float(alone) + 0.75 * expected, rel=1e-4)


def test_a_folder_opens_to_the_same_scores_everywhere(late: TokenEncoder, folder: Path, texts: list[str]) -> None:
    """Ours, sentence-transformers' MultiVectorEncoder, and a task of MTEB, which scores every document."""
    from sentence_transformers import MultiVectorEncoder

    asked = [f"q: {text}" for text in texts[:3]]
    batch = make_triple_batch(late, asked, [f"p: {text}" for text in texts[4:10]])
    with torch.no_grad():
        expected = naive_scores(TokenEncoder.load(folder), batch).numpy()
        np.testing.assert_allclose(expected, naive_scores(late, batch).numpy(), atol=1e-5)
    model = MultiVectorEncoder(str(folder), device="cpu")
    model.max_seq_length = 32  # as the batch by hand
    theirs = model.similarity(model.encode_query(texts[:3]), model.encode_document(texts[4:10]))
    np.testing.assert_allclose(theirs.numpy(), expected, rtol=1e-4)

    search = encoder_search(str(folder), "late", "cpu")
    search.model.max_seq_length = 32
    search.index(Dataset.from_dict({"id": [f"d{n}" for n in range(6)], "text": texts[4:10]}), **CONTEXT, num_proc=None)
    queries = Dataset.from_dict({"id": ["q0", "q1", "q2"], "text": texts[:3]})
    hits = search.search(queries, top_k=6, num_proc=None, **CONTEXT)
    np.testing.assert_allclose([[hits[q][f"d{n}"] for n in range(6)] for q in queries["id"]], expected, rtol=1e-4)


def test_what_cannot_teach_or_be_taught_is_refused(
    late: TokenEncoder, folder: Path, tiny_encoder_dir: Path, texts: list[str]
) -> None:
    with pytest.raises(ModelError, match=r"mcontriever reads Transformer \+ Pooling"):
        Encoder.load(folder)
    student = Encoder.load(tiny_encoder_dir)
    with pytest.raises(ModelError, match=r"is not a late-interaction model(.|\n)*late_interaction_msmarco"):
        Distillation(in_batch_teacher=str(tiny_encoder_dir)).for_encoder(student)
    with pytest.raises(ModelError, match=r"has another prefix of queries than the student(.|\n)*starts from"):
        Distillation(in_batch_teacher=str(folder)).for_encoder(student)
    for embed in (late.embed_queries, late.embed_documents):
        with pytest.raises(ModelError, match=r"a vector for each token(.|\n)*mcontriever benchmark"):
            embed(texts)
