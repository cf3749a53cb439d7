"""ASAM without our training loop, to compare it with."""

from pathlib import Path

import numpy as np
import torch

from mcontriever.encoder import Encoder
from mcontriever.finetuning.contrastive import Contrastive
from mcontriever.finetuning.examples.training_set import open_training_set
from mcontriever.finetuning.triple_objective import TripleObjective
from mcontriever.finetuning.triples import TripleLoader


def asam_by_hand(
    examples: Path, tiny_encoder_dir: Path, *, rate: float, steps: int, rho: float, eta: float
) -> dict[str, torch.Tensor]:
    """The published algorithm in a plain loop: gradient, step to the worst point nearby, gradient, step back, update.

    By plain descent: Adam makes whole steps of gradients that are nothing but rounding.
    """
    encoder = Encoder.load(tiny_encoder_dir)
    for module in encoder.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    encoder.train()
    loader = TripleLoader.for_encoder(
        encoder,
        examples=open_training_set(format="columns", paths=[str(examples)]),
        negatives=2,
        hard_ratio=0.5,
        query_length=24,
        passage_length=32,
        seed=0,
    )
    objective = TripleObjective(encoder=encoder, loss=Contrastive(temperature=0.05))
    named = list(objective.named_parameters())
    optimizer = torch.optim.SGD([parameter for _, parameter in named], lr=rate)
    for step in range(steps):
        batch = loader.batch(np.arange(4 * step, 4 * step + 4))
        optimizer.zero_grad()
        objective(batch)[0].backward()
        scales = {name: p.detach().abs() + eta if "weight" in name else torch.ones_like(p) for name, p in named}
        norm = _norm([scales[name] * p.grad for name, p in named])
        moves = {name: rho * scales[name] ** 2 * p.grad / norm for name, p in named}
        with torch.no_grad():
            for name, parameter in named:
                parameter.add_(moves[name])
        optimizer.zero_grad()
        objective(batch)[0].backward()
        with torch.no_grad():
            for name, parameter in named:
                parameter.sub_(moves[name])
        optimizer.step()
    return dict(encoder.backbone.state_dict())


def _norm(tensors: list[torch.Tensor]) -> float:
    return float(torch.cat([tensor.flatten() for tensor in tensors]).double().norm())
