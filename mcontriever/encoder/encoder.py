"""A text encoder: a Hugging Face backbone, pooling, and the settings that make two embeddings comparable.

    encoder = Encoder.load("mini")    # a bundled model; or the path of an exported folder, or a hub name
    encoder.embed_queries(["who wrote it?"]) @ encoder.embed_documents(["She wrote it."]).T

Training differentiates `forward`, which takes packed rows. Inference calls `embed_queries` and `embed_documents`, which
take texts. Shapes: N rows, L longest, T tokens in all, H hidden.
"""

import contextlib
import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import normalize as unit_length

from mcontriever.encoder.backbone_loading import load_backbone
from mcontriever.encoder.bag_of_subwords import bag_means, is_plain_bag
from mcontriever.encoder.fingerprint import weights_fingerprint
from mcontriever.encoder.model_checksums import check_weights
from mcontriever.encoder.new_backbone import copy_embeddings, freeze_as_noted, random_backbone
from mcontriever.encoder.packed_attention import wants_sorted_rows
from mcontriever.encoder.packed_forward import can_pack, first_position, packed_hidden_states
from mcontriever.encoder.rounded_training import as_rounded, feels_rounding
from mcontriever.encoder.saved_model import (
    DEFAULT_MAX_LENGTH,
    MODEL_FOLDER,
    POOLING_MODES,
    SIMILARITIES,
    read_int8_ranges,
    read_spec,
    write_model_folder,
)
from mcontriever.encoder.texts_to_vectors import (
    PRECISIONS,
    Embed,
    build_inference_model,
    calibrate_on,
    checked_device,
    embed_texts,
    resolve_precision,
)
from mcontriever.encoder.without_transformers import load_light_backbone, load_light_tokenizer
from mcontriever.errors import ModelError
from mcontriever.evidence_rule import EvidenceRule
from mcontriever.hub import model_folder
from mcontriever.tokens import PackedBatch, SpecialTokens, load_tokenizer


class Encoder(torch.nn.Module):
    """Similarity "cosine" means embeddings of length one, so consumers only ever take dot products.

    `compute_dtype` is for training: with None the caller decides (DeepSpeed's autocast, or float32), and torch.bfloat16
    opens an autocast unless one is active. `precision` is for `embed_*`: see texts_to_vectors.py.
    """

    def __init__(
        self,
        backbone: Any,
        tokenizer: Any,
        *,
        token_weights: torch.nn.Embedding | None = None,
        pooling: str = "mean",
        normalize: bool = False,
        similarity: str = "dot",
        max_length: int = DEFAULT_MAX_LENGTH,
        query_prefix: str = "",
        document_prefix: str = "",
        precision: str = "float32",
        int8_ranges: dict[str, torch.Tensor] | None = None,
        evidence_rule: EvidenceRule | None = None,
        compute_dtype: torch.dtype | None = None,
        checkpoint_layers: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.tokenizer = tokenizer
        self.token_weights = token_weights
        self.pooling = pooling
        self.similarity = similarity
        self.normalize = normalize or similarity == "cosine"
        self.max_length = max_length
        self.query_prefix, self.document_prefix = query_prefix, document_prefix
        self.precision, self.int8_ranges, self.evidence_rule = precision, int8_ranges, evidence_rule
        self.compute_dtype, self.checkpoint_layers = compute_dtype, checkpoint_layers
        self.special = SpecialTokens.of(tokenizer)
        self.first_position = first_position(backbone)
        self.dimension = int(backbone.config.hidden_size)
        self.truncated_texts = 0  # how many texts embed_* had to cut to max_length so far
        self._kept: dict[str, tuple[Any, Any]] = {}
        _check(self)

    @classmethod
    def load(
        cls,
        name_or_folder: str | Path,
        *,
        device: str | torch.device = "cpu",
        light: bool | None = None,
        **changes: Any,
    ) -> "Encoder":
        """`mini`, `nano`, an exported folder, a sentence-transformers model or a plain backbone, by path or hub name.

        `changes` (pooling, normalize, similarity, max_length, query_prefix, document_prefix, precision, ...) override
        the folder's settings unless they are None. `light` loads without transformers, for inference on the CPU; None
        does so for a bag of subwords, which needs nothing more: see without_transformers.py.
        """
        from mcontriever.encoder.two_encoders import with_query_encoder

        folder = model_folder(name_or_folder)
        check_weights(folder)
        settings = {**read_spec(folder), **{name: value for name, value in changes.items() if value is not None}}
        backbone = load_light_backbone(folder, bags_only=light is None) if light in (None, True) else None
        backbone = backbone or load_backbone(folder)
        freeze_as_noted(backbone, folder)
        settings.setdefault("max_length", min(DEFAULT_MAX_LENGTH, _positions(backbone)))
        settings.setdefault("int8_ranges", read_int8_ranges(folder))
        tokenizer = (load_light_tokenizer(folder) if light else None) or load_tokenizer(folder)
        encoder = Encoder(backbone, tokenizer, **settings)
        resolve_precision(encoder.precision, checked_device(device))
        return with_query_encoder(encoder, folder, light=light, **changes).to(device).eval()

    @classmethod
    def from_random(cls, config: Mapping[str, Any], tokenizer: Any, *, seed: int = 0, **settings: Any) -> "Encoder":
        """A new backbone of `config` (Hugging Face's keys and those of new_backbone.py) for this tokenizer."""
        max_length = settings.get("max_length", DEFAULT_MAX_LENGTH)
        backbone, token_weights = random_backbone(config, tokenizer, max_length, seed)
        return cls(backbone, tokenizer, token_weights=token_weights, **settings)

    def start_embeddings(self, other: "Encoder") -> int:
        """Start from another checkpoint's subword embeddings; returns how many pieces the tokenizers share."""
        own, others = (encoder.backbone.get_input_embeddings().weight for encoder in (self, other))
        return copy_embeddings(own, self.tokenizer, others, other.tokenizer)

    @property
    def mteb_model_meta(self) -> Any:
        """MTEB reads this. Our `similarity` is a name; MTEB calls a method."""
        raise ModelError("MTEB cannot take a bare Encoder", fix="mteb.evaluate(mcontriever.mteb_model(encoder), tasks)")

    @property
    def device(self) -> torch.device:
        return next(self.backbone.parameters()).device

    def forward(self, batch: PackedBatch) -> torch.Tensor:
        """embeddings_NH in float32, with gradient; packed if the architecture can."""
        if not can_pack(self.backbone.config):
            return self.forward_padded(batch)
        if self.pooling == "mean" and is_plain_bag(self.backbone):
            return self._finish(bag_means(self.backbone, self.token_weights, batch))
        with self._autocast():
            if not wants_sorted_rows(self.backbone):
                return self.pool(self._hidden_states(batch), batch)
            order = np.argsort(-batch.lengths_N.cpu().numpy(), kind="stable")
            by_length = batch.select(order)
            embeddings_NH = self.pool(self._hidden_states(by_length), by_length)
            return embeddings_NH[torch.from_numpy(np.argsort(order)).to(embeddings_NH.device)]

    def _hidden_states(self, batch: PackedBatch) -> torch.Tensor:
        word_vectors_TH = self._weighted_words(batch.token_ids_T)
        return packed_hidden_states(
            self.backbone, batch, word_vectors_TH=word_vectors_TH, checkpoint_layers=self.checkpoint_layers
        )

    def _weighted_words(self, token_ids: torch.Tensor) -> torch.Tensor | None:
        if self.token_weights is None:
            return None
        return self.backbone.get_input_embeddings()(token_ids) * self.token_weights(token_ids)

    def forward_padded(self, batch: PackedBatch) -> torch.Tensor:
        """Hugging Face's own padded forward: the reference, and for architectures that cannot pack."""
        input_ids_NL, mask_NL = batch.pad()
        weighted_NLH = self._weighted_words(input_ids_NL)
        inputs = {"input_ids": input_ids_NL} if weighted_NLH is None else {"inputs_embeds": weighted_NLH}
        with self._autocast():
            hidden_NLH = self.backbone(**inputs, attention_mask=mask_NL).last_hidden_state
        return self.pool(hidden_NLH[mask_NL.bool()], batch)

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        device = self.device.type
        if self.compute_dtype in (None, torch.float32) or torch.is_autocast_enabled(device):
            return contextlib.nullcontext()
        return torch.autocast(device, dtype=self.compute_dtype)

    def pool(self, hidden_TH: torch.Tensor, batch: PackedBatch) -> torch.Tensor:
        """One float32 embedding per row, of length one with `normalize`."""
        if self.pooling == "cls":
            pooled_NH = hidden_TH[batch.offsets[:-1].long()].float()
        else:
            lengths_N = batch.lengths_N.long()
            row_of_token_T = torch.repeat_interleave(lengths_N, output_size=hidden_TH.shape[0])
            summed_NH = torch.zeros(len(batch), hidden_TH.shape[1], device=hidden_TH.device)
            pooled_NH = summed_NH.index_add(0, row_of_token_T, hidden_TH.float()) / lengths_N[:, None]
        return self._finish(pooled_NH)

    def _finish(self, pooled_NH: torch.Tensor) -> torch.Tensor:
        return unit_length(pooled_NH, dim=-1) if self.normalize else pooled_NH

    def embed_queries(self, texts: Sequence[str]) -> np.ndarray:
        """float32 [n, H]; no gradient, no dropout."""
        return embed_texts(self, [self.query_prefix + text for text in texts])

    def embed_documents(self, texts: Sequence[str], titles: Sequence[str] | None = None) -> np.ndarray:
        """float32 [n, H]; a title goes before its text."""
        if titles is not None:
            texts = [f"{title} {text}".strip() for title, text in zip(titles, texts, strict=True)]
        return embed_texts(self, [self.document_prefix + text for text in texts])

    def calibrate(self, texts: Sequence[str]) -> None:
        """Learn int8's ranges from a sample of the texts to embed; `save` stores them with the model."""
        self.int8_ranges = calibrate_on(self, texts)

    def inference_model(self) -> Embed:
        """The function behind `embed_*`, cached until a weight or a setting changes."""
        key = (self.precision, self.pooling, id(self.int8_ranges))
        return self._keep("inference", key, lambda: build_inference_model(self))

    def fingerprint(self) -> str:
        """sha256 over weights, tokenizer and spec: equal iff two encoders' embeddings are comparable."""
        whole, spec = self.folded_backbone, self.spec()
        return self._keep("fingerprint", str(spec), lambda: weights_fingerprint(whole(), self.tokenizer, spec))

    def _keep(self, name: str, key: Any, make: Any) -> Any:
        key = (key, tuple((value.data_ptr(), value._version) for value in self.parameters()))
        if self.training or name not in self._kept or self._kept[name][0] != key:
            self._kept[name] = (key, make())
        return self._kept[name][1]

    def train(self, mode: bool = True) -> "Encoder":
        """Clears the caches, because optimizers may change weights without torch's version counter."""
        if mode:
            self._kept.clear()
            self.int8_ranges = None
        return super().train(mode)

    def spec(self) -> dict[str, Any]:
        """The settings that two encoders must share for their embeddings to be comparable."""
        names = ("pooling", "normalize", "similarity", "max_length", "query_prefix", "document_prefix")
        return {name: getattr(self, name) for name in names}

    def folded_backbone(self) -> Any:
        """A plain backbone that gives the same embeddings alone: token weights multiplied in, weights as rounded."""
        if feels_rounding(self.backbone):
            return as_rounded(self.backbone)
        if self.token_weights is None:
            return self.backbone
        folded = copy.deepcopy(self.backbone)
        with torch.no_grad():
            folded.get_input_embeddings().weight.mul_(self.token_weights.weight)
        return folded

    def save(
        self,
        folder: str | Path,
        card: str | None = None,
        attachments: Mapping[str, bytes] | None = None,
        *,
        overwrite: bool = False,
    ) -> Path:
        """Write a folder that SentenceTransformer, AutoModel and `Encoder.load` open; `overwrite` replaces a model."""
        MODEL_FOLDER.require_replaceable(folder, overwrite=overwrite)
        self._write(Path(folder), card, attachments or {})
        return Path(folder)

    def _write(self, folder: Path, card: str | None, attachments: Mapping[str, bytes]) -> None:
        parts = (self.folded_backbone(), self.tokenizer, self.spec(), card, attachments, self.int8_ranges)
        write_model_folder(folder, *parts, self.evidence_rule)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Encoder":
        """Copies the weights and shares the tokenizer, which never changes."""
        memo[id(self.tokenizer)] = self.tokenizer
        memo[id(self._kept)] = {}
        duplicate = type(self).__new__(type(self))
        memo[id(self)] = duplicate
        duplicate.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return duplicate


def _positions(backbone: Any) -> int:
    """How many tokens a row may have."""
    table = getattr(backbone.config, "max_position_embeddings", None) or DEFAULT_MAX_LENGTH
    return int(table) - first_position(backbone)


def _check(encoder: Encoder) -> None:
    where = getattr(encoder.tokenizer, "name_or_path", None) or None
    for name, allowed in (("pooling", POOLING_MODES), ("similarity", SIMILARITIES), ("precision", PRECISIONS)):
        if (value := getattr(encoder, name)) not in allowed:
            what = f"{name} {value!r} is not one of {', '.join(allowed)}"
            raise ModelError(what, where=where, fix="choose one of these, or export the model again")
    room = _positions(encoder.backbone)
    if not 1 <= encoder.max_length <= room:
        what = f"max_length {encoder.max_length} is not among the backbone's {room} positions"
        raise ModelError(what, where=where, fix=f"set max_length to a number from 1 to {room}")
    tokens, rows = len(encoder.tokenizer), encoder.backbone.get_input_embeddings().num_embeddings
    if tokens > rows:
        what = f"the tokenizer has {tokens} tokens, the backbone embeddings for {rows}"
        raise ModelError(what, where=where, fix="use the tokenizer that belongs to this model")
