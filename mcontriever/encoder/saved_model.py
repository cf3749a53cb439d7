"""A model's folder: sentence-transformers' layout, which `AutoModel` reads too.

config.json model.safetensors tokenizer.json ...   the Hugging Face backbone and its tokenizer
modules.json 1_Pooling/ 2_Normalize/               how token vectors become one embedding
sentence_bert_config.json                          max length
config_sentence_transformers.json                  similarity and prefixes; of some models their evidence rule
checksums.json                                     of the weights and tokenizer.json
README.md                                          model card
query/ router_config.json                          of two encoders: that of queries, and a Router over both
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import orjson
import torch
from safetensors.torch import load_file, save_file

from mcontriever.disk import atomic_folder, is_plain_name, read_json, write_json
from mcontriever.encoder.backbone_loading import quiet_transformers
from mcontriever.encoder.card_usage import usage
from mcontriever.encoder.model_checksums import CHECKSUMS, write_checksums
from mcontriever.errors import ModelError
from mcontriever.evidence_rule import EvidenceRule
from mcontriever.model_files import AGAIN, reading_model
from mcontriever.output_folder import FolderKind
from mcontriever.records import read_record

T = TypeVar("T")

_FILES = (
    *("config.json", "generation_config.json", "model*.safetensors", "model.safetensors.index.json", "README.md"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.txt"),
    *("vocab.json", "merges.txt", "*.model", "modules.json", "1_Pooling/config.json", "2_Normalize/config.json"),
    *("sentence_bert_config.json", "config_sentence_transformers.json", "int8_ranges.safetensors", "training.yaml"),
    *("1_Dense/config.json", "1_Dense/model.safetensors", "2_MultiVectorMask/config.json", "3_Normalize/config.json"),
    *("report.md", "report.json", "router_config.json", CHECKSUMS),  # reports are of `trim`
)
QUERIES = "query"  # of two encoders, the folder of the queries' one
MODEL_FOLDER = FolderKind("model", marks=("modules.json",), files=(*_FILES, *(f"{QUERIES}/{file}" for file in _FILES)))
POOLING_MODES = ("mean", "cls")
SIMILARITIES = ("dot", "cosine")
DEFAULT_MAX_LENGTH = 512
INT8_RANGES = "int8_ranges.safetensors"
# The names every version of sentence-transformers resolves, old and new.
_TRANSFORMER = "sentence_transformers.models.Transformer"
_POOLING = "sentence_transformers.models.Pooling"
_NORMALIZE = "sentence_transformers.models.Normalize"
_ROUTER, _ROUTES = "sentence_transformers.models.Router", "router_config.json"
_SETTINGS = "config_sentence_transformers.json"


def write_model_folder(
    folder: Path,
    backbone: Any,
    tokenizer: Any,
    spec: Mapping[str, Any],
    card: str | None,
    attachments: Mapping[str, bytes],
    int8_ranges: dict[str, torch.Tensor] | None = None,
    evidence_rule: EvidenceRule | None = None,
    *,
    files: Mapping[str, Any] | None = None,
) -> None:
    """Write the folder under a temporary name, then rename it: a reader never sees half a model.

    `files` replaces sentence-transformers' files for a model that pools.
    """
    with atomic_folder(folder) as temporary:
        with quiet_transformers():
            backbone.save_pretrained(temporary)
        write_tokenizer(tokenizer, temporary, spec["max_length"])
        for name, value in (files or _sentence_transformers_files(spec, backbone.config.hidden_size)).items():
            file = temporary / name
            file.parent.mkdir(exist_ok=True)
            file.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
        if evidence_rule is not None:
            write_evidence_rule(temporary, evidence_rule)
        (temporary / "README.md").write_text(card if card is not None else _plain_card(spec))
        if int8_ranges is not None:
            save_file(int8_ranges, temporary / INT8_RANGES)
        for name, content in attachments.items():
            (temporary / name).write_bytes(content)
        write_checksums(temporary)


_HOW_IT_WAS_LOADED = frozenset({"is_local", "local_files_only"})  # transformers writes them too
PLAIN_TOKENIZER = "PreTrainedTokenizerFast"  # reads tokenizer.json and adds nothing


def write_tokenizer(tokenizer: Any, folder: Path, max_length: int) -> None:
    """As transformers saves it, without white space, which is half of tokenizer.json."""
    before = tokenizer.model_max_length
    tokenizer.model_max_length = max_length
    try:
        tokenizer.save_pretrained(folder)
    finally:
        tokenizer.model_max_length = before
    file = folder / "tokenizer.json"
    if file.exists():
        file.write_bytes(orjson.dumps(orjson.loads(file.read_bytes())))
    settings = {
        name: value
        for name, value in read_json(folder / "tokenizer_config.json").items()
        if name not in _HOW_IT_WAS_LOADED
    }
    if settings.get("tokenizer_class") == "TokenizersBackend":  # a name that transformers before 5 does not know
        settings["tokenizer_class"] = PLAIN_TOKENIZER
    write_json(folder / "tokenizer_config.json", settings)


def _sentence_transformers_files(spec: Mapping[str, Any], dimension: int) -> dict[str, Any]:
    types = {"": _TRANSFORMER, "1_Pooling": _POOLING}
    if spec["normalize"]:
        types["2_Normalize"] = _NORMALIZE
    modules = [
        {"idx": index, "name": str(index), "path": path, "type": kind}
        for index, (path, kind) in enumerate(types.items())
    ]
    files: dict[str, Any] = {
        "modules.json": modules,
        "sentence_bert_config.json": {"max_seq_length": spec["max_length"], "do_lower_case": False},
        "1_Pooling/config.json": {
            "word_embedding_dimension": dimension,
            "pooling_mode_cls_token": spec["pooling"] == "cls",
            "pooling_mode_mean_tokens": spec["pooling"] == "mean",
            "pooling_mode_max_tokens": False,
            "pooling_mode_mean_sqrt_len_tokens": False,
        },
        _SETTINGS: {
            "model_type": "SentenceTransformer",
            "prompts": {"query": spec["query_prefix"], "document": spec["document_prefix"]},
            "default_prompt_name": None,
            "similarity_fn_name": spec["similarity"],
        },
    }
    if spec["normalize"]:
        files["2_Normalize/config.json"] = {}
    return files


def write_evidence_rule(folder: Path, rule: EvidenceRule) -> None:
    """Into a model's folder; it changes no vector, so no checksum and no fingerprint."""
    file = folder / _SETTINGS
    write_json(file, {**(_read(file, dict[str, Any]) or {}), "evidence_rule": asdict(rule)})


def router_files(normalize: bool) -> dict[str, Any]:
    """For a folder of two encoders, which already holds both: queries go through one, all else through the other."""
    kinds = {"": _TRANSFORMER, "1_Pooling": _POOLING} | ({"2_Normalize": _NORMALIZE} if normalize else {})
    routes = {"query": [Path(QUERIES, path).as_posix() for path in kinds], "document": [path or "." for path in kinds]}
    types = {path: kind for paths in routes.values() for path, kind in zip(paths, kinds.values(), strict=True)}
    parameters = {"default_route": "document", "allow_empty_key": True}
    return {
        "modules.json": [{"idx": 0, "name": "0", "path": "", "type": _ROUTER}],
        _ROUTES: {"types": types, "structure": routes, "parameters": parameters},
    }


def query_folder(folder: Path) -> Path | None:
    """Of a folder of two encoders that we wrote, the one for queries."""
    router = _read(folder / _ROUTES, _Router) or _Router()
    return folder / QUERIES if router.structure.get("query", [])[:1] == [QUERIES] else None


def _plain_card(spec: Mapping[str, Any]) -> str:
    lines = [f"- {name.replace('_', ' ')}: {value!r}" for name, value in spec.items()]
    return "# Text encoder\n\nMade with mcontriever.\n\n" + "\n".join(lines) + f"\n\n{usage(spec)}\n"


def architectures_of(folder: Path) -> list[str]:
    """The classes of transformers (or of others) that the weights were saved from."""
    config = _read(folder / "config.json", dict[str, Any]) or {}
    names = config.get("architectures")
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def is_colbert(folder: Path) -> bool:
    """A checkpoint of ColBERT's authors, or of PyLate: a vector for each token."""
    modules = _read(folder / "modules.json", list[_Module])
    if modules is None:
        return "HF_ColBERT" in architectures_of(folder)
    return any(module.type.startswith("pylate.") for module in modules)


def read_spec(folder: Path) -> dict[str, Any]:
    """What the folder says about pooling, normalisation, similarity, length, prefixes and its evidence rule.

    {} for a plain backbone.
    """
    if is_colbert(folder):
        what = "the model is a ColBERT, which has a vector for each token and not one for a text"
        raise ModelError(what, where=folder, fix="score it with mcontriever benchmark, or choose a dense model")
    modules = _read(folder / "modules.json", list[_Module])
    if modules is None:
        return {}
    if query_folder(folder) is not None:
        router = _read(folder / _ROUTES, _Router) or _Router()
        paths = router.structure.get("document", [])
        modules = [_Module(path=path.removeprefix("."), type=router.types.get(path, "unknown")) for path in paths]
    kinds = [module.type.rsplit(".", 1)[-1] for module in modules]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise ModelError(
            f"the model consists of {' + '.join(kinds)}; mcontriever reads Transformer + Pooling (+ Normalize)",
            where=folder / "modules.json",
            fix="choose a model without further layers",
        )
    if modules[0].path:
        raise ModelError(
            f"the backbone is in the subfolder {modules[0].path!r}",
            where=folder / "modules.json",
            fix="move its files beside modules.json",
        )
    if not is_plain_name(modules[1].path):
        raise ModelError(f"{modules[1].path!r} is not a folder of this model", where=folder / "modules.json", fix=AGAIN)
    settings = _read(folder / _SETTINGS, _Settings) or _Settings()
    transformer = _read(folder / "sentence_bert_config.json", _Transformer) or _Transformer()
    prompts = settings.prompts or {}
    spec = {
        "pooling": _pooling_mode(folder / modules[1].path / "config.json"),
        "normalize": len(kinds) == 3,
        "similarity": settings.similarity_fn_name or "cosine",
        "max_length": transformer.max_seq_length,
        "query_prefix": prompts.get("query", ""),
        "document_prefix": prompts.get("document", ""),
        "evidence_rule": settings.evidence_rule,
    }
    return {name: value for name, value in spec.items() if value is not None}


def _pooling_mode(file: Path) -> str:
    config = _read(file, dict[str, Any]) or {}
    mode = config.get("pooling_mode")
    if mode is None:
        names = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
        modes = [names.get(key, key) for key, on in config.items() if key.startswith("pooling_mode_") and on is True]
        mode = "+".join(modes)
    if mode not in POOLING_MODES:
        fix = "choose a model that pools by mean or cls"
        raise ModelError(f"pooling {mode!r} is not one of {', '.join(POOLING_MODES)}", where=file, fix=fix)
    return str(mode)


@dataclass(frozen=True)
class _Module:
    type: str
    path: str = ""


@dataclass(frozen=True)
class _Router:
    structure: dict[str, list[str]] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Settings:
    prompts: dict[str, str] | None = None
    similarity_fn_name: str | None = None
    evidence_rule: EvidenceRule | None = None


@dataclass(frozen=True)
class _Transformer:
    max_seq_length: int | None = None


def _read(file: Path, kind: type[T]) -> T | None:
    return read_record(file, kind, error=ModelError, fix=AGAIN) if os.path.lexists(file) else None


def read_int8_ranges(folder: Path) -> dict[str, torch.Tensor] | None:
    file = folder / INT8_RANGES
    if not file.exists():
        return None
    with reading_model(INT8_RANGES, folder):
        return load_file(file)
