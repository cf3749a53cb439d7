"""Dense, sparse and late-interaction models as searches: ours packed, the others through MTEB's wrappers."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import mteb
from mteb.models import EncoderProtocol, ModelMeta
from mteb.models.sentence_transformer_wrapper import (
    MultiVectorWrapper,
    SentenceTransformerEncoderWrapper,
    SparseEncoderWrapper,
)

from mcontriever.disk import sha256_of
from mcontriever.encoder import Encoder
from mcontriever.encoder.saved_model import architectures_of, is_colbert, read_spec
from mcontriever.errors import ModelError
from mcontriever.evaluation.dpr_checkpoints import load_two_encoders, title_separator
from mcontriever.evaluation.known_models import SPARTA, SPLADE, known_settings
from mcontriever.evaluation.mteb_encoder import MtebEncoder, model_meta
from mcontriever.evaluation.mteb_search import Centre, EncoderSearch
from mcontriever.evaluation.sparse_models import sparta_encoder, splade_encoder
from mcontriever.hub import is_at_hand, is_bundled, model_folder
from mcontriever.progress import log


def encoder_search(name: str, label: str, device: str, centre: Centre | None = None) -> Any:
    """A folder, the bundled model, one that we or MTEB know by name (with MTEB's prompts), or any other hub name."""
    if is_at_hand(name):
        return _of_folder(name, label, device, centre)
    if name == SPARTA or name in SPLADE:
        return sparse_search("sparta" if name == SPARTA else "splade", name, label, device)
    settings = known_settings(name)
    if settings:
        encoder = Encoder.load(name, device=device, precision="auto", **settings)
        return _searching(MtebEncoder(encoder, label), centre, name)
    try:
        meta = mteb.get_model_meta(name)
    except KeyError:
        return _of_folder(str(model_folder(name)), label, device, centre)
    refuse_foreign_code(meta)
    if "late-interaction" in meta.model_type:
        # sentence-transformers reads ColBERT and PyLate checkpoints itself, so PyLate need not be installed
        return _relabelled(MultiVectorWrapper(name, revision=meta.revision, device=device), name, str(meta.revision))
    try:
        model = meta.load_model(device=device)
    except ImportError as error:
        fix = "install what the message names"
        raise ModelError(f"{name} needs more than is installed: {error}", fix=fix) from error
    except (OSError, ValueError) as error:
        fix = "check the name and the network, or fetch it first: mcontriever benchmark --prefetch FOLDER --model ..."
        raise ModelError(f"the model cannot be loaded: {str(error).splitlines()[0]}", where=name, fix=fix) from error
    return _searching(model, centre, name)


def two_encoders_search(questions: str, passages: str, label: str, device: str, centre: Centre | None = None) -> Any:
    encoder = MtebEncoder(load_two_encoders(questions, passages, device), label)
    return EncoderSearch(encoder, encoder.mteb_model_meta, centre, title_separator(passages))


def sparse_search(kind: str, name: str, label: str, device: str) -> Any:
    """`kind` is sparta, of a plain backbone, or splade, of a masked language model."""
    folder = model_folder(name)
    encoder = sparta_encoder(folder, device) if kind == "sparta" else splade_encoder(folder, device)
    model = _relabelled(SparseEncoderWrapper(encoder), label, _files_revision(folder))
    return EncoderSearch(model, model.mteb_model_meta)


def refuse_foreign_code(meta: ModelMeta) -> None:
    """Some of MTEB's models run code from their repository, which could do anything to this machine."""
    if _trusts_code(meta.loader_kwargs):
        raise ModelError(
            f"MTEB loads {meta.name} with trust_remote_code: it would run code from the model's repository",
            fix="convert it once, on a machine that may run such code, to a folder without code, and give that folder",
        )


def _trusts_code(settings: Any) -> bool:
    if not isinstance(settings, Mapping):
        return False
    return settings.get("trust_remote_code") is True or any(map(_trusts_code, settings.values()))


def is_centred(search: Any) -> bool:
    """Whether any part of a search has centred embeddings."""
    return any(getattr(part, "centre", None) is not None for part in (search, *getattr(search, "parts", ())))


def hub_models(names: Iterable[str]) -> list[tuple[str, str | None]]:
    """Of these names, those that come from the hub, with the revision that MTEB pins if it knows them."""
    found: list[tuple[str, str | None]] = []
    for name in dict.fromkeys(names):
        if not is_at_hand(name):
            try:
                found.append((name, mteb.get_model_meta(name).revision))
            except KeyError:
                found.append((name, None))
    return found


def _of_folder(name: str, label: str, device: str, centre: Centre | None) -> Any:
    kind = _kind_of(name)
    if kind == "ours":
        encoder = MtebEncoder(Encoder.load(name, device=device, precision="auto"), label)
        return EncoderSearch(encoder, encoder.mteb_model_meta, centre)
    wrappers: dict[str, Callable[..., Any]] = {
        "SentenceTransformer": SentenceTransformerEncoderWrapper,
        "SparseEncoder": SparseEncoderWrapper,
        "MultiVectorEncoder": MultiVectorWrapper,
        "ColBERT": MultiVectorWrapper,
    }
    if kind not in wrappers:
        raise ModelError(
            f"the model is a {kind}, which cannot find documents on its own",
            where=name,
            fix=f"re-rank with it: --model bm25+rerank:{name}",
        )
    return _searching(
        _relabelled(wrappers[kind](name, device=device), label, _files_revision(Path(name))), centre, name
    )


def _kind_of(name: str) -> str:
    """The folder's kind as sentence-transformers names it, or "ours" if our encoder reads it."""
    if is_bundled(name):
        return "ours"
    folder = Path(name)
    if is_colbert(folder):
        return "ColBERT"
    settings = folder / "config_sentence_transformers.json"
    kind = json.loads(settings.read_text()).get("model_type") if settings.is_file() else None
    if kind in (None, "SentenceTransformer"):
        if not (folder / "modules.json").is_file() and _is_classifier(folder):
            return "CrossEncoder"
        try:
            read_spec(folder)
        except ModelError as error:
            log.info(f"{folder.name}: {error.what}; sentence-transformers runs it instead")
            return "SentenceTransformer"
        return "ours"
    return str(kind)


def _is_classifier(folder: Path) -> bool:
    return any(name.endswith("ForSequenceClassification") for name in architectures_of(folder))


def _searching(model: Any, centre: Centre | None, name: str) -> Any:
    """Sparse and late-interaction models have no single dense vector per text, so there is nothing to centre."""
    if isinstance(model, EncoderProtocol):
        return EncoderSearch(model, model.mteb_model_meta, None if isinstance(model, SparseEncoderWrapper) else centre)
    if not hasattr(model, "search"):
        raise ModelError(f"{name} cannot find documents on its own", fix=f"re-rank with it: --model bm25+rerank:{name}")
    return model


def _relabelled(model: Any, label: str, revision: str) -> Any:
    model.mteb_model_meta = model_meta(label, revision)
    return model


def _files_revision(folder: Path) -> str:
    """Hash of the model's files: weights, tokenizer, settings."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix in (".safetensors", ".bin", ".json", ".model", ".txt"):
            digest.update(f"{path.relative_to(folder)} {sha256_of(path)}".encode())
    return digest.hexdigest()
