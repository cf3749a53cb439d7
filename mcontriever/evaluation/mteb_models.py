"""Our models through MTEB's own functions, with the metadata that its leaderboard asks for.

mteb.evaluate(mcontriever.mteb_model("nano"), tasks)          a name, a folder that we exported, or an Encoder

import mcontriever.evaluation.mteb_models                     after this line
mteb.get_model("mcontriever/mini")                            MTEB knows the bundled models by name
register("mine", "runs/tiny-model")                           and mcontriever/mine

python -m mcontriever.evaluation.mteb_models run -m mcontriever/mini -t NFCorpus     `mteb`, with both registered
python -m mcontriever.evaluation.mteb_models run -m runs/tiny-model -t NFCorpus      and with an exported folder
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pydantic
from huggingface_hub import ModelCard
from mteb.models import ModelMeta
from mteb.models.model_implementations import MODEL_REGISTRY

from mcontriever.encoder import Encoder
from mcontriever.errors import ModelError, UserError
from mcontriever.evaluation.language_names import mteb_code
from mcontriever.evaluation.mteb_encoder import MtebEncoder, model_meta
from mcontriever.hub import is_at_hand, model_folder

NANO, MINI = "nano", "mini"  # the bundled models of these names, which no Path is equal to
# What their cards do not say. Contamination in MTEB's names: both read questions of TyDi QA (Mr. TyDi's) and of Natural
# Questions (CLAPNQ, QED), and passages of JaQuAD. A model made of another one has also read what that one read.
_READ = {"MrTidyRetrieval", "NQ", "JaQuADRetrieval"}
FACTS: dict[str | Path, dict[str, Any]] = {
    NANO: {
        "release_date": "2026-11-29",
        "license": "cc-by-sa-4.0",
        "public_training_code": "configs/nano/run.sh of mcontriever",
        "public_training_data": "data_recipes/nano.yaml of mcontriever",
        "training_datasets": _READ,
    },
    MINI: {
        "release_date": "2026-11-29",
        "public_training_code": "configs/mini/run.sh of mcontriever",
        "public_training_data": "data_recipes/mini.yaml of mcontriever",
        "training_datasets": _READ,
    },
}
# mini is known by name without being loaded, which would take seconds; a test compares this with the model.
_MINI_SIZE: dict[str, Any] = {
    "revision": "2b57c45036738a211d712b4dad8d495b4790501f",
    "n_parameters": 50_728_320,
    "n_embedding_parameters": 34_560_000,
    "memory_usage_mb": 50_728_320 * 4 / (1 << 20),
    "embed_dim": 384,
    "max_tokens": 512,
    "similarity_fn_name": "cosine",
    "use_instructions": True,
    "framework": ["PyTorch", "safetensors"],
}


def mteb_model(model: Encoder | str | Path, device: str = "cpu") -> MtebEncoder:
    """What `mteb.evaluate` takes."""
    if isinstance(model, Encoder):
        return MtebEncoder(model, "encoder")
    return _loaded(model, device, FACTS.get(model, {}))


def register(name: str, model: str | Path) -> ModelMeta:
    """Make `mteb.get_model("mcontriever/NAME")` find this model."""
    return _in_registry(name, model, _loaded(model, "cpu", FACTS.get(model, {})).mteb_model_meta)


def _in_registry(name: str, model: str | Path, meta: ModelMeta) -> ModelMeta:
    facts = FACTS.get(model, {})

    def load(_: str, revision: str | None = None, device: str = "cpu", **settings: Any) -> MtebEncoder:
        return _loaded(model, device, facts)

    registered = f"mcontriever/{name}"
    MODEL_REGISTRY[registered] = meta.model_copy(update={"name": registered, "loader": load})
    return MODEL_REGISTRY[registered]


def _loaded(model: str | Path, device: str, facts: Mapping[str, Any]) -> MtebEncoder:
    folder = model_folder(model)
    loaded = MtebEncoder(Encoder.load(model, device=device, precision="auto"), folder.name)
    loaded.mteb_model_meta = _complete(loaded.mteb_model_meta, folder, facts)
    return loaded


def _complete(meta: ModelMeta, folder: Path, facts: Mapping[str, Any]) -> ModelMeta:
    """With what the card says, and what `facts` say beyond that."""
    card = _card_facts(folder)
    read = {*card.get("training_datasets", ()), *facts.get("training_datasets", ())}
    known = {"open_weights": True, **card, **facts, **({"training_datasets": read} if read else {})}
    try:
        return ModelMeta.model_validate({**dict(meta), **known})
    except pydantic.ValidationError as error:
        found = {item["loc"][0]: item["input"] for item in error.errors()}
        what = ", ".join(f"{name}: {value!r}" for name, value in found.items())
        fix = "correct the front matter of the model card"
        raise ModelError(f"MTEB does not accept {what}", where=folder / "README.md", fix=fix) from error


def _card_facts(folder: Path) -> dict[str, Any]:
    """From the front matter of a model card; MTEB recognises `datasets` that have the name of a task."""
    card = folder / "README.md"
    if not card.is_file() or not card.read_text(encoding="utf-8").startswith("---\n"):
        return {}
    data = ModelCard.load(card).data
    languages = [data.language] if isinstance(data.language, str) else data.language or []
    base = data.base_model[0] if isinstance(data.base_model, list) else data.base_model
    facts = {
        "languages": [code for code in map(mteb_code, languages) if code != "und-Zyyy"],
        "license": data.license,
        "adapted_from": base,
        "training_datasets": set(data.datasets or ()) | _read_by(base),
    }
    return {name: value for name, value in facts.items() if value}


def _read_by(ancestor: str | None) -> set[str]:
    """What MTEB knows that a model was trained on."""
    return set(MODEL_REGISTRY[ancestor].training_datasets or ()) if ancestor in MODEL_REGISTRY else set()


def mteb_command(words: Sequence[str]) -> None:
    """MTEB's own command line, whose -m takes a folder too."""
    from mteb.cli.build_cli import main

    names = [
        _known_name(word) if before in ("-m", "--model") else word
        for before, word in zip(("", *words), words, strict=False)
    ]
    sys.argv = ["mteb", *names]
    main()


def _known_name(model: str) -> str:
    """Of a folder, the name that it gets here; a name of MTEB's or the hub's stays."""
    is_folder = is_at_hand(model) or model.startswith((".", "~", "/"))
    return str(register(Path(model).resolve().name, model).name) if is_folder else model


register(NANO, NANO)
_in_registry(MINI, MINI, _complete(model_meta(MINI, **_MINI_SIZE), model_folder(MINI), FACTS[MINI]))


if __name__ == "__main__":
    try:
        mteb_command(sys.argv[1:])
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
