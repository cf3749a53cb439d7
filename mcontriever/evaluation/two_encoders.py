"""Two encoders that share a vector space, one for questions and one for passages: DPR, as MTEB's EncoderProtocol."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mteb.types import PromptType
from safetensors.torch import load_file

from mcontriever.disk import read_json
from mcontriever.encoder import Encoder
from mcontriever.errors import ModelError
from mcontriever.evaluation.mteb_encoder import MtebEncoder, model_meta
from mcontriever.hub import model_folder
from mcontriever.tokens import load_tokenizer

DPR_MAX_LENGTH = 256  # of the passages that the authors trained on, and more than any question has
_DPR_PREFIXES = ("question_encoder.bert_model.", "ctx_encoder.bert_model.")


class TwoEncoders(MtebEncoder):
    """Queries through one encoder, everything else through the other; compared as the passage encoder says."""

    def __init__(self, questions: Encoder, passages: Encoder, name: str) -> None:
        super().__init__(passages, name)
        if questions.dimension != passages.dimension:
            raise ModelError(
                f"the questions' encoder has {questions.dimension} dimensions, the passages' {passages.dimension}",
                fix="give the two encoders that were trained together, the questions' first",
            )
        self.questions = questions
        both = hashlib.sha256(f"{questions.fingerprint()} {passages.fingerprint()}".encode()).hexdigest()
        self.mteb_model_meta = model_meta(name, both, **_facts_of(self.mteb_model_meta))

    def encode(self, inputs: Any, *, prompt_type: PromptType | None = None, **settings: Any) -> np.ndarray:
        if prompt_type == PromptType.query:
            return self.questions.embed_queries(inputs.dataset["text"][:])
        return super().encode(inputs, prompt_type=prompt_type, **settings)


def load_two_encoders(questions: str, passages: str, label: str, device: str) -> TwoEncoders:
    return TwoEncoders(_load_side(questions, device), _load_side(passages, device), label)


def _load_side(name: str, device: str) -> Encoder:
    """One of DPR's checkpoints, or any folder that `Encoder.load` reads."""
    folder = model_folder(name)
    if read_json(folder / "config.json").get("model_type") == "dpr":
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


def _facts_of(meta: Any) -> dict[str, Any]:
    """Of the passages' encoder; each of the two has so many parameters."""
    return {name: getattr(meta, name) for name in ("embed_dim", "max_tokens", "similarity_fn_name")}
