"""What a model named on the command line searches with: the parts of retrieval behind the interfaces of evaluation.

`searches` serves MTEB's tasks, whose documents come with them; `open_passages` serves answer recall, over a store of
millions of passages that `mcontriever embed` made before. Shapes: Q queries, K hits, D documents, H dimensions.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from mcontriever.encoder import Encoder
from mcontriever.errors import ConfigError, StoreError
from mcontriever.evaluation.answer_run import Passages
from mcontriever.evaluation.model_specs import ModelSpec
from mcontriever.evaluation.models import encoder_search, is_centred
from mcontriever.evaluation.mteb_combined import FusedSearch, RerankedSearch, TextSearch
from mcontriever.evaluation.mteb_encoder import combined_meta, model_meta
from mcontriever.progress import log
from mcontriever.retrieval.combined_search import CombinedSearch
from mcontriever.retrieval.dense_search import DenseSearch
from mcontriever.retrieval.fusion import BLENDED_DENSE_WEIGHT, Fusion, fuse, reciprocal_rank_fusion
from mcontriever.retrieval.language_means import means_of_vectors
from mcontriever.retrieval.lexical_index import LexicalIndex, subword_tokenizer, tokenize_words
from mcontriever.retrieval.lexical_search import LexicalSearch
from mcontriever.retrieval.rerank import Reranker
from mcontriever.retrieval.searcher import MEMORY_MB
from mcontriever.retrieval.store.embedding_store import EmbeddingStore
from mcontriever.retrieval.store.store_encoder import check_encoder, encoder_entry
from mcontriever.texts.documents import Query
from mcontriever.tokens import load_tokenizer, tokenizer_fingerprint

CENTRED = " (centred)"
WORDS_REVISION = "words-1"
TEXTS_AT_ONCE = 4096


def searches(
    specs: dict[str, ModelSpec], center_languages: bool, rerank_depth: int, device: str
) -> Iterator[tuple[str, Any]]:
    """(label, search), one after another: only one model is in memory."""
    for label, spec in specs.items():
        yield label, _search(spec, label, rerank_depth, _device(device), centred=False)
        if center_languages:
            search = _search(spec, label + CENTRED, rerank_depth, _device(device), centred=True)
            if is_centred(search):
                yield label + CENTRED, search
            else:
                log.info(f"{label} has no dense vectors to centre")


def _search(spec: ModelSpec, label: str, rerank_depth: int, device: str, centred: bool) -> Any:
    if spec.kind.startswith("bm25"):
        return _bm25(spec, label)
    if spec.kind == "encoder":
        return encoder_search(spec.value, label, device, _centre if centred else None)
    if spec.kind == "blend":
        return _blended(spec, label, rerank_depth, device, centred)
    parts = [_search(part, label, rerank_depth, device, centred) for part in spec.parts]
    if spec.kind == "hybrid":
        return FusedSearch(parts, reciprocal_rank_fusion, combined_meta(label, parts))
    meta = combined_meta(label, parts, f"{spec.value} {rerank_depth}")
    return RerankedSearch(parts[0], Reranker.load(spec.value, device).scores, meta, rerank_depth)


def _blended(spec: ModelSpec, label: str, rerank_depth: int, device: str, centred: bool) -> FusedSearch:
    """As `mcontriever search --fusion blend` does it."""
    lexical = [part.kind.startswith("bm25") for part in spec.parts]
    parts = [
        _bm25(part, label, as_shares=True) if is_lexical else _search(part, label, rerank_depth, device, centred)
        for part, is_lexical in zip(spec.parts, lexical, strict=True)
    ]

    def blend(rankings: list[list[tuple[int, float]]]) -> list[tuple[int, float]]:
        by_kind: dict[bool, list[list[tuple[int, float]]]] = {True: [], False: []}
        for ranking, is_lexical in zip(rankings, lexical, strict=True):
            by_kind[is_lexical].append(ranking)
        return fuse(by_kind[False], by_kind[True], "blend")

    return FusedSearch(parts, blend, combined_meta(label, parts, f"blend {BLENDED_DENSE_WEIGHT} {lexical}"))


def _bm25(spec: ModelSpec, label: str, *, as_shares: bool = False) -> TextSearch:
    if spec.kind == "bm25" and not as_shares:
        return TextSearch(_plain_bm25, model_meta(label, f"bm25s-{version('bm25s')}"))
    tokenizer = load_tokenizer(spec.value) if spec.kind == "bm25:subwords" else None
    tokenize = tokenize_words if tokenizer is None else subword_tokenizer(tokenizer)
    revision = WORDS_REVISION if tokenizer is None else tokenizer_fingerprint(tokenizer)

    def build(texts: list[str]) -> Any:
        index = LexicalIndex.build([texts], tokenize)
        return lambda queries, k: (index.search_shares if as_shares else index.search)(queries, k)[::-1]

    return TextSearch(build, model_meta(label, revision))


def _plain_bm25(texts: list[str]) -> Any:
    """bm25s as it comes, without stop words. What shares no word with the query is no hit, as everywhere here."""
    import bm25s

    corpus = bm25s.tokenize(texts, stopwords=None, show_progress=False)
    if not corpus.vocab:  # bm25s cannot be without terms
        return lambda queries, k: (np.full((len(queries), k), -1), np.zeros((len(queries), k)))
    index = bm25s.BM25()
    index.index(corpus, show_progress=False)

    def find(queries: Sequence[str], k: int) -> tuple[np.ndarray, np.ndarray]:
        asked = bm25s.tokenize(list(queries), stopwords=None, show_progress=False)
        positions_QK, scores_QK = index.retrieve(asked, k=k, show_progress=False)
        return np.where(scores_QK > 0, positions_QK, -1), scores_QK

    return find


def _centre(documents_DH: np.ndarray, languages: list[str]) -> np.ndarray:
    """Take each language's mean off its documents, as `mcontriever search --center-languages` does."""
    return documents_DH - means_of_vectors(documents_DH, languages).of(languages)


def open_passages(spec: ModelSpec, stores: Sequence[Path], rerank_depth: int, device: str) -> Passages:
    """The store that belongs to the model, and its search over rows."""
    if not stores:
        raise ConfigError(
            "the questions are asked of a store of Wikipedia's passages, and no --store was given",
            fix="mcontriever embed psgs_w100.tsv.gz --model M --output STORE, then add --store STORE",
        )
    search, revision = _store_search(spec, [EmbeddingStore.open(folder) for folder in stores], _device(device))
    store = search.store
    if not store.manifest.layout.keeps_text:
        raise StoreError("the store was made without texts, so no answer can be found in them", where=store.folder)
    search = replace(search, depth=rerank_depth)
    return Passages(
        count=len(store), revision=revision, data_revision=store.manifest.rows_fingerprint(),
        find=lambda queries, k: _rows(search, queries, k), texts=lambda: _texts(store),
    )  # fmt: skip


def _store_search(
    spec: ModelSpec, stores: list[EmbeddingStore], device: str, as_shares: bool = False
) -> tuple[CombinedSearch, str]:
    """The search over the store that belongs to the model, and the revision of all that it uses."""
    if spec.kind.startswith("bm25"):
        # over a store there is one kind of words, that of `mcontriever search`: its index is kept beside the store
        tokenizer = load_tokenizer(spec.value) if spec.value else None
        lexical = LexicalSearch.open(stores[0], "subwords" if spec.value else "words", tokenizer, as_shares=as_shares)
        revision = WORDS_REVISION if tokenizer is None else tokenizer_fingerprint(tokenizer)
        return CombinedSearch(store=stores[0], lexical={"bm25": lexical}), revision
    if spec.kind == "encoder":
        encoder = Encoder.load(spec.value, device=device, precision="auto")
        store = _store_of(encoder, spec.value, stores)
        dense = DenseSearch.open(store, encoder, MEMORY_MB << 20)
        return CombinedSearch(store=store, dense={"dense": dense}), encoder.fingerprint()
    parts = [_store_search(part, stores, device, as_shares=spec.kind == "blend") for part in spec.parts]
    revision = str(combined_meta("", [], " ".join(part[1] for part in parts) + spec.value).revision)
    if spec.kind == "rerank":
        return replace(parts[0][0], reranker=Reranker.load(spec.value, device)), revision
    return _fused([part[0] for part in parts], "blend" if spec.kind == "blend" else "rrf"), revision


def _fused(parts: list[CombinedSearch], fusion: Fusion) -> CombinedSearch:
    store = parts[-1].store
    if any(len(part.store) != len(store) for part in parts):
        raise StoreError("the two models' stores hold other passages", where=store.folder, fix="embed the same corpus")
    return CombinedSearch(
        store=store,
        dense={f"dense {number}": search for number, part in enumerate(parts) for search in part.dense.values()},
        lexical={f"bm25 {number}": search for number, part in enumerate(parts) for search in part.lexical.values()},
        fusion=fusion,
    )


def _rows(search: CombinedSearch, queries: Sequence[str], k: int) -> np.ndarray:
    rows_QK = np.full((len(queries), k), -1, dtype=np.int64)
    asked = [Query(str(number), text) for number, text in enumerate(queries)]
    for number, ranked in enumerate(search.rank(asked, k)):
        rows_QK[number, : len(ranked)] = [one.row for one in ranked]
    return rows_QK


def _store_of(encoder: Encoder, name: str, stores: list[EmbeddingStore]) -> EmbeddingStore:
    given = encoder_entry(name, encoder)
    for store in stores:
        if store.encoder is not None and given is not None and store.encoder.fingerprint == given.fingerprint:
            return store
    check_encoder(stores[0].encoder, given, stores[0].folder)
    raise AssertionError("check_encoder refuses a store of another encoder")


def _texts(store: EmbeddingStore) -> Iterator[tuple[int, str]]:
    row = 0
    for _, texts in store.text_batches(TEXTS_AT_ONCE):
        yield from enumerate(texts, start=row)
        row += len(texts)


def _device(wanted: str) -> str:
    import torch

    return ("cuda" if torch.cuda.is_available() else "cpu") if wanted == "auto" else wanted
