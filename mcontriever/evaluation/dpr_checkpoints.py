"""DPR's checkpoints, which hold a BERT under a name of their own, as the two encoders of one space.

A title and its passage are two segments for DPR: [CLS] title [SEP] text [SEP], all of one token type. So are they in a
benchmark here. (facebookresearch/DPR: conf/encoder/hf_bert.yaml; beir-cellar/beir: beir/retrieval/models/dpr.py)
"""

from pathlib import Path

import torch
from safetensors.torch import load_file

from mcontriever.disk import read_json
from mcontriever.encoder import Encoder
from mcontriever.encoder.two_encoders import TwoEncoders
from mcontriever.errors import ModelError
from mcontriever.evaluation.model_specs import parse_model
from mcontriever.hub import model_folder
from mcontriever.tokens import load_tokenizer

DPR_MAX_LENGTH = 256  # of the passages that the authors trained on, and more than any question has
_DPR_PREFIXES = ("question_encoder.bert_model.", "ctx_encoder.bert_model.")


def load_pair(spec: str) -> TwoEncoders:
    """What dpr:QUESTIONS,PASSAGES means."""
    part = parse_model(spec).parts[0]
    return load_two_encoders(part.name, part.passages, "cpu")


def load_two_encoders(questions: str, passages: str, device: str) -> TwoEncoders:
    return TwoEncoders(_load_side(questions, device), _load_side(passages, device)).eval()


def title_separator(name: str) -> str:
    """What stands between a title and its passage for this encoder of passages."""
    folder = model_folder(name)
    return f" {load_tokenizer(str(folder)).sep_token} " if _is_dpr(folder) else " "


def _is_dpr(folder: Path) -> bool:
    config = folder / "config.json"
    return config.is_file() and read_json(config).get("model_type") == "dpr"


def _load_side(name: str, device: str) -> Encoder:
    """One of DPR's checkpoints, or any folder that `Encoder.load` reads."""
    folder = model_folder(name)
    if _is_dpr(folder):
        return _dpr_encoder(folder).to(device).eval()
    return Encoder.load(name, device=device, precision="auto")


def _dpr_encoder(folder: Path) -> Encoder:
    """DPR's files hold a BERT under a name of their own; its embedding is BERT's first vector."""
    from transformers import BertConfig, BertModel

    names = {key: value for key, value in read_json(folder / "config.json").items() if key != "model_type"}
    backbone = BertModel(BertConfig(**names), add_pooling_layer=False)
    backbone.load_state_dict(_bert_weights(folder))
    return Encoder(backbone, load_tokenizer(str(folder)), pooling="cls", similarity="dot", max_length=DPR_MAX_LENGTH)


def _bert_weights(folder: Path) -> dict[str, torch.Tensor]:
    file = folder / "model.safetensors"
    if file.is_file():
        stored = load_file(file)
    elif (folder / "pytorch_model.bin").is_file():
        stored = torch.load(folder / "pytorch_model.bin", map_location="cpu", weights_only=True)
    else:
        raise ModelError("no weights in the folder", where=folder, fix="download the model again")
    found = {
        name.removeprefix(prefix): weights
        for name, weights in stored.items()
        for prefix in _DPR_PREFIXES
        if name.startswith(prefix) and not name.removeprefix(prefix).startswith("pooler.")
    }
    found.pop("embeddings.position_ids", None)  # a buffer that older files have
    if not found:
        fix = "give DPR's question or context encoder (the reader is neither)"
        raise ModelError(f"no weights named {_DPR_PREFIXES[0]}... or {_DPR_PREFIXES[1]}...", where=folder, fix=fix)
    return found
