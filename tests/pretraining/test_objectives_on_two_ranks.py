"""Two ranks train as one rank does on the joined batch: plainly, and inside DeepSpeed at every ZeRO stage."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from mcontriever import ranks
from mcontriever.pretraining.inbatch import InBatch
from mcontriever.pretraining.moco import MoCo
from mcontriever.pretraining.relevance import relevance_objective
from mcontriever.pretraining.temperature import Temperature
from tests.distillation.test_distil import batch_of as taught_batch
from tests.distillation.test_distil import objective_of
from tests.pretraining.tiny_pairs import gradients, new_encoder, pair_batch
from tests.two_ranks import on_two_new_ranks, on_two_ranks

pytestmark = pytest.mark.long(17)

ROWS, UPDATES, MICRO_STEPS, RATE = 4, 3, 2, 0.2
KINDS = (
    "moco",
    "moco with batch negatives",
    "relevance",
    "relevance of the batch",
    "inbatch",
    "inbatch in sub-batches",
    "distil",
)


def make_objective(kind: str, folder: Path) -> Any:
    if kind == "distil":
        return objective_of("moco", folder)
    encoder = new_encoder(folder)
    if kind.startswith("inbatch"):
        rows = 3 if "sub-batches" in kind else None
        return InBatch(encoder, temperature=Temperature(0.1, learned=True), rows_per_sub_batch=rows)
    settings = {"temperature": Temperature(0.1, learned=True), "queue_size": 21, "momentum": 0.8}
    if kind.startswith("relevance"):
        return relevance_objective(encoder, over_batch="batch" in kind, own_language_negatives=True, **settings)
    return MoCo(encoder, batch_negatives="batch" in kind, **settings)


def batch_of(objective: Any, kind: str, update: int, micro_step: int, rank: int | None) -> Any:
    """A rank's rows, or all of them; samples stand in the order that the trainer gives them."""
    first = (update * MICRO_STEPS + micro_step) * 2 * ROWS
    samples = range(first, first + 2 * ROWS) if rank is None else range(first + rank * ROWS, first + (rank + 1) * ROWS)
    if kind == "distil":
        return taught_batch(objective, "moco", samples)
    return pair_batch(objective.encoder, samples, keys_per_query=2 if kind == "relevance" else 1, texts=15)


def train_alone(kind: str, folder: Path) -> tuple[list[float], dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    objective = make_objective(kind, folder)
    optimizer = torch.optim.SGD(objective.parameters(), lr=RATE)
    losses = []
    for update in range(UPDATES):
        optimizer.zero_grad()
        for micro_step in range(MICRO_STEPS):
            loss, _ = objective(batch_of(objective, kind, update, micro_step, None))
            (loss / MICRO_STEPS).backward()
            losses.append(loss.item())
        optimizer.step()
        objective.after_update()
    return losses, weights_of(objective), objective.state()


def weights_of(objective: Any) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in objective.named_parameters()}


def gradients_of_my_rows(kind: str, folder: Path) -> tuple[float, dict[str, torch.Tensor]]:
    objective = make_objective(kind, folder)
    if not kind.startswith("inbatch"):
        for update in range(2):
            objective(batch_of(objective, kind, update, 0, ranks.rank()))
            objective.after_update()
    loss, _ = objective(batch_of(objective, kind, 2, 0, ranks.rank()))
    loss.backward()
    return loss.item(), gradients(objective)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_averaged_over_two_ranks_equal_those_of_the_joined_batch(kind: str, tiny_tokenizer_dir: Path) -> None:
    alone = make_objective(kind, tiny_tokenizer_dir)
    if not kind.startswith("inbatch"):
        for update in range(2):
            alone(batch_of(alone, kind, update, 0, None))
            alone.after_update()
    loss, _ = alone(batch_of(alone, kind, 2, 0, None))
    loss.backward()
    of_ranks = on_two_ranks(gradients_of_my_rows, kind, tiny_tokenizer_dir)
    assert sum(of_rank[0] for of_rank in of_ranks) / 2 == pytest.approx(loss.item(), rel=1e-5)
    averaged = {name: (of_ranks[0][1][name] + of_ranks[1][1][name]) / 2 for name in of_ranks[0][1]}
    torch.testing.assert_close(averaged, gradients(alone), rtol=1e-3, atol=1e-6)


def train_in_deepspeed(runs: list[tuple[str, int, bool]], folder: Path) -> list[Any]:
    """For each (kind, ZeRO stage, bfloat16): mean losses, whole weights after each update, what lives outside."""
    os.environ.update(DS_ACCELERATOR="cpu", LOCAL_RANK=str(ranks.rank()))
    import logging

    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    import deepspeed
    import deepspeed.ops

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # a slow compilation, for inference only
    deepspeed.init_distributed(dist_backend="gloo", verbose=False)
    return [_train_engine(deepspeed, *run, folder) for run in runs]


def _train_engine(deepspeed: Any, kind: str, stage: int, bfloat16: bool, folder: Path) -> Any:
    objective = make_objective(kind, folder)
    settings = {
        "train_micro_batch_size_per_gpu": ROWS,
        "gradient_accumulation_steps": MICRO_STEPS,
        "steps_per_print": 10**9,
        "gradient_clipping": 0.0,  # DeepSpeed clips at 1 unless told
        "zero_optimization": {"stage": stage},
        "zero_allow_untested_optimizer": True,
        "bf16": {"enabled": bfloat16},
        "optimizer": {"type": "SGD", "params": {"lr": RATE}},
    }
    engine, *_ = deepspeed.initialize(model=objective, model_parameters=list(objective.parameters()), config=settings)
    losses, weights = [], []
    for update in range(UPDATES):
        for micro_step in range(MICRO_STEPS):
            loss, _ = engine(batch_of(objective, kind, update, micro_step, ranks.rank()))
            engine.backward(loss)
            engine.step()
            losses.append(ranks.average(loss).item())
        objective.after_update()
        weights.append(_whole_weights(deepspeed, objective))
    state = {name: value.clone() for name, value in objective.state().items()}
    engine.destroy()
    return losses, weights, state


def _whole_weights(deepspeed: Any, objective: Any) -> dict[str, torch.Tensor]:
    found = {}
    for name, value in objective.named_parameters():
        with deepspeed.zero.GatheredParameters([value], enabled=hasattr(value, "ds_id")):
            found[name] = value.detach().clone()
    return found


@pytest.fixture(scope="module")
def deepspeed_runs(tiny_tokenizer_dir: Path) -> dict[tuple[str, int, bool], list[Any]]:
    runs = [(kind, 3, False) for kind in KINDS]
    runs += [(kind, stage, False) for kind in ("moco", "inbatch in sub-batches", "distil") for stage in (0, 2)]
    runs += [("moco", 1, True), ("moco", 3, True)]
    of_ranks = on_two_new_ranks(train_in_deepspeed, runs, tiny_tokenizer_dir)
    return {run: [of_rank[place] for of_rank in of_ranks] for place, run in enumerate(runs)}


@pytest.mark.parametrize("kind", KINDS)
def test_every_zero_stage_trains_as_one_process_does(kind: str, deepspeed_runs: Any, tiny_tokenizer_dir: Path) -> None:
    losses, weights, state = train_alone(kind, tiny_tokenizer_dir)
    stages = [run[1] for run in deepspeed_runs if run[0] == kind and not run[2]]
    assert 3 in stages
    for stage in stages:
        for rank_losses, rank_weights, rank_state in deepspeed_runs[kind, stage, False]:
            assert rank_losses == pytest.approx(losses, rel=1e-4), stage
            torch.testing.assert_close(rank_weights[-1], weights, rtol=1e-3, atol=1e-5)
            torch.testing.assert_close(rank_state, state, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("stage", [1, 3])
def test_the_slow_copy_moves_in_float32_under_bfloat16_weights(
    stage: int, deepspeed_runs: Any, tiny_tokenizer_dir: Path
) -> None:
    slow = {name: value.double() for name, value in weights_of(make_objective("moco", tiny_tokenizer_dir)).items()}
    (_, weights, state), (_, _, other_state) = deepspeed_runs["moco", stage, True]
    assert weights[0]["encoder.backbone.embeddings.LayerNorm.weight"].dtype == torch.bfloat16
    for after_update in weights:
        slow = {name: 0.8 * value + 0.2 * after_update[name].double() for name, value in slow.items()}
    for name, value in slow.items():
        if name.startswith("encoder."):
            own = state[f"momentum.{name.removeprefix('encoder.')}"]
            assert own.dtype == torch.float32
            torch.testing.assert_close(own.double(), value, rtol=1e-5, atol=1e-7)
    assert all(torch.equal(state[name], other_state[name]) for name in state)
