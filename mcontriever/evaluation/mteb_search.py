"""Exact search with any encoder behind MTEB's SearchProtocol.

`index` takes a corpus, `search` returns {query id: {document id: score}}. A corpus that several subsets share is
embedded once. Shapes: Q queries, D documents of a block, K best, H dimensions.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from mteb.models import ModelMeta, SearchEncoderWrapper
from mteb.types import PromptType
from torch.utils.data import DataLoader

from mcontriever.errors import ModelError
from mcontriever.progress import track

Hits = dict[str, dict[str, float]]
Centre = Callable[[np.ndarray, list[str]], np.ndarray]

BLOCK_DOCUMENTS = 4096
SCORES_AT_ONCE = 1 << 25
KEPT_BYTES = 2 << 30


def document_texts(corpus: Dataset, separator: str = " ") -> list[str]:
    """Title and text joined as in MTEB. (A column's [:] is one list; iterating it reads row by row.)"""
    texts = [text.strip() for text in corpus["text"][:]]
    if "title" not in corpus.column_names:
        return texts
    titled = zip(corpus["title"][:], texts, strict=True)
    return [f"{title}{separator}{text}".strip() if title else text for title, text in titled]


class EncoderSearch:
    """Exact search with any MTEB encoder, block by block, with a running best K for each query.

    `centre(documents_DH, their languages)` may shift the documents before the search; for cosine similarity they are
    normalised again. `separator` stands between a title and its text.
    """

    def __init__(self, encoder: Any, meta: ModelMeta, centre: Centre | None = None, separator: str = " ") -> None:
        self.encoder = encoder
        self.separator = separator
        self.mteb_model_meta = meta
        self.centre = centre
        self._corpus: Dataset | None = None
        self._kept: list[Any] = []

    def index(self, corpus: Dataset, **context: Any) -> None:
        if self._corpus is None or corpus._fingerprint != self._corpus._fingerprint:
            self._corpus, self._kept = corpus, []

    def search(self, queries: Dataset, *, top_k: int, top_ranked: Any = None, **context: Any) -> Hits:
        assert self._corpus is not None
        if top_ranked is not None or "instruction" in queries.column_names:
            wrapper = SearchEncoderWrapper(self.encoder)
            wrapper.index(self._corpus, **{**context, "num_proc": None})
            return wrapper.search(queries, top_k=top_k, top_ranked=top_ranked, **context)
        queries_QH = self._encode(queries["text"][:], PromptType.query, context)
        blocks = self._blocks(context) if self.centre is None else iter([self._centred(context)])
        scores_QK, positions_QK = self._best(queries_QH, len(queries), blocks, min(top_k, len(self._corpus)))
        return hits_of(queries["id"][:], self._corpus["id"][:], positions_QK.numpy(), scores_QK.numpy())

    def _best(self, queries_QH: Any, count: int, blocks: Iterator[Any], k: int) -> tuple[torch.Tensor, torch.Tensor]:
        scores_QK, positions_QK = torch.empty(count, 0), torch.empty(count, 0, dtype=torch.long)
        start = 0
        for block_DH in blocks:
            for part_DH in _parts(block_DH, max(1, SCORES_AT_ONCE // count)):
                scores_QD = torch.as_tensor(self.encoder.similarity(queries_QH, part_DH)).float().cpu()
                if not bool(torch.isfinite(scores_QD).all()):
                    raise ModelError(
                        "the model's scores contain NaN or infinity", fix="check its weights and precision"
                    )
                best = scores_QD.topk(min(k, scores_QD.shape[1]), dim=1)
                scores = torch.cat([scores_QK, best.values], dim=1)
                positions = torch.cat([positions_QK, best.indices + start], dim=1)
                kept = scores.topk(min(k, scores.shape[1]), dim=1)
                scores_QK, positions_QK = kept.values, positions.gather(1, kept.indices)
                start += scores_QD.shape[1]
        return scores_QK, positions_QK

    def _blocks(self, context: dict[str, Any]) -> Iterator[Any]:
        """Embedded documents, kept for the next subset if they fit in KEPT_BYTES."""
        assert self._corpus is not None
        if self._kept:
            yield from self._kept
            return
        kept, size = [], 0
        with track(len(self._corpus), "embedding", "documents") as progress:
            for start in range(0, len(self._corpus), BLOCK_DOCUMENTS):
                rows = self._corpus.select(range(start, min(start + BLOCK_DOCUMENTS, len(self._corpus))))
                block_DH = self._encode(document_texts(rows, self.separator), PromptType.document, context)
                progress.advance(len(rows))
                size += _bytes_of(block_DH)
                if self.centre is not None or size <= KEPT_BYTES:
                    kept.append(block_DH)
                yield block_DH
        if self.centre is not None or size <= KEPT_BYTES:
            self._kept = kept

    def _centred(self, context: dict[str, Any]) -> np.ndarray:
        assert self._corpus is not None
        assert self.centre is not None
        documents_DH = np.concatenate([np.asarray(block) for block in self._blocks(context)])
        documents_DH = self.centre(documents_DH, languages_of(self._corpus))
        if self.mteb_model_meta.similarity_fn_name == "cosine":
            documents_DH /= np.maximum(np.linalg.norm(documents_DH, axis=1, keepdims=True), 1e-12)
        return documents_DH

    def _encode(self, texts: list[str], kind: PromptType, context: dict[str, Any]) -> Any:
        settings = dict(context["encode_kwargs"])
        columns = {"text": texts, "query": texts} if kind == PromptType.query else {"text": texts}
        loader = DataLoader(Dataset.from_dict(columns), batch_size=settings.get("batch_size", 32))
        names = ("task_metadata", "hf_split", "hf_subset")
        return self.encoder.encode(loader, prompt_type=kind, **{name: context[name] for name in names}, **settings)


def hits_of(query_ids: list[str], ids: list[str], positions_QK: np.ndarray, scores_QK: np.ndarray) -> Hits:
    """Arrays to MTEB's dictionaries; a negative position means no hit."""
    names = np.array(ids, dtype=object)
    hits: Hits = {}
    for query, positions, scores in zip(query_ids, positions_QK, scores_QK, strict=True):
        if positions.size and positions.min() < 0:
            positions, scores = positions[positions >= 0], scores[positions >= 0]
        hits[query] = dict(zip(names[positions].tolist(), scores.tolist(), strict=True))
    return hits


def languages_of(dataset: Dataset) -> list[str]:
    return dataset["language"][:] if "language" in dataset.column_names else [""] * len(dataset)


def _parts(block_DH: Any, rows: int) -> Iterator[Any]:
    """Slices of at most `rows` documents; a sparse block cannot be sliced and stays whole."""
    if isinstance(block_DH, torch.Tensor) and block_DH.is_sparse:
        yield block_DH
        return
    for start in range(0, len(block_DH), rows):
        yield block_DH[start : start + rows]


def _bytes_of(block_DH: Any) -> int:
    if isinstance(block_DH, torch.Tensor) and block_DH.is_sparse:
        return block_DH._nnz() * 20
    return int(np.prod(block_DH.shape)) * 4
