"""`mcontriever average MODEL ANOTHER... --output F`: one model whose weights are the mean of those of several.

    mcontriever average runs/crops/model runs/base --output runs/both
    mcontriever average runs/crops/model runs/base --weights 2,1 --output runs/both

They must have the same layers and pieces: a model and what it was trained from, or runs with several seeds. The mean of
a model before and after training often keeps more of what it knew (Wortsman et al. 2022). Prefixes, pooling and the
tokenizer are the first model's.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import torch

from mcontriever.encoder import Encoder
from mcontriever.encoder.card_usage import usage
from mcontriever.encoder.saved_model import MODEL_FOLDER
from mcontriever.encoder.two_encoders import parts_of
from mcontriever.errors import ConfigError, ModelError
from mcontriever.progress import log

SAME = ("pooling", "normalize", "similarity")


def run(
    models: Sequence[str], output: Path, *, weights: Sequence[float] | None = None, overwrite: bool = False
) -> None:
    """`weights` may have any sum; without them all models count the same."""
    shares = _shares(len(models), weights)
    MODEL_FOLDER.require_replaceable(output, overwrite=overwrite)
    first = _single(models[0])
    means = {name: _share_of(value, shares[0]) for name, value in first.state_dict().items()}
    for model, share in zip(models[1:], shares[1:], strict=True):
        other = _single(model)
        _check_same(first, other, models[0], model)
        for name, value in other.state_dict().items():
            if value.is_floating_point():
                means[name] += _share_of(value, share)
        if other.evidence_rule != first.evidence_rule:
            first.evidence_rule = None  # it was chosen for scores that neither gives
    first.load_state_dict(means)
    first.int8_ranges = None
    first.save(output, card=_card(first, output.resolve().name, models, shares), overwrite=overwrite)
    log.info(f"the mean of {len(models)} models: {output}")


def model_weights(text: str) -> list[float]:
    """ "2,1" as numbers."""
    try:
        return [float(number) for number in text.split(",")]
    except ValueError:
        raise ConfigError(f"--weights {text!r} is not a list of numbers", fix="for example --weights 2,1") from None


def _share_of(value: torch.Tensor, share: float) -> torch.Tensor:
    """In double precision, so that equal models have themselves as their mean; what is no fraction stays."""
    return value.to(torch.float64, copy=True).mul_(share) if value.is_floating_point() else value


def _shares(models: int, weights: Sequence[float] | None) -> list[float]:
    if models < 2:
        raise ConfigError("an average of fewer than two models", fix="name two or more, before --output")
    weights = [1.0] * models if weights is None else list(weights)
    if len(weights) != models:
        fix = "give one number for each model, in their order"
        raise ConfigError(f"--weights has {len(weights)} numbers, and there are {models} models", fix=fix)
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights) or sum(weights) == 0:
        shown = ",".join(f"{weight:g}" for weight in weights)
        raise ConfigError(f"--weights {shown}: not above 0 in all, or negative", fix="for example --weights 2,1")
    return [weight / sum(weights) for weight in weights]


def _single(model: str) -> Encoder:
    encoder = Encoder.load(model, light=False)
    if len(parts_of(encoder)) > 1:
        fix = "average the queries' encoders (the folders query/) alone"
        raise ModelError("the model has a separate query encoder", where=model, fix=fix)
    return encoder


def _check_same(first: Encoder, other: Encoder, first_name: str, name: str) -> None:
    fix = f"average models that were trained from one another, or from the same model as {first_name}"
    ours, theirs = ({key: value.shape for key, value in one.state_dict().items()} for one in (first, other))
    different = sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))
    if different:
        raise ModelError(f"its weights are not those of {first_name}: {different[0]} differs", where=name, fix=fix)
    if first.tokenizer.get_vocab() != other.tokenizer.get_vocab():
        raise ModelError(f"its pieces are not those of {first_name}", where=name, fix=fix)
    for setting in SAME:
        if first.spec()[setting] != other.spec()[setting]:
            found = f"{setting} is {other.spec()[setting]!r}, {first_name} has {first.spec()[setting]!r}"
            raise ModelError(found, where=name, fix=fix)


def _card(encoder: Encoder, name: str, models: Sequence[str], shares: Sequence[float]) -> str:
    rows = "".join(f"| {model} | {share:.3g} |\n" for model, share in zip(models, shares, strict=True))
    table = f"| model | share |\n| --- | ---: |\n{rows}"
    return f"# {name}\n\nThe mean of these models' weights.\n\n{table}\n{usage(encoder.spec())}\n"
