"""The searches behind `--model`: the parts of retrieval behind the interfaces of evaluation.

`searches` is for MTEB's tasks, which contain their documents; `open_passages` is for answer recall over a store of
millions of passages made by `mcontriever embed`. Shapes: Q queries, K hits, D documents, H dimensions.
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
from mcontriever.evaluation.model_specs import ModelSpec, SearchSpec
from mcontriever.evaluation.models import encoder_search, is_centred, sparse_search, two_encoders_search
from mcontriever.evaluation.mteb_combined import (
    Combine,
    CombinedMtebSearch,
    DocumentSearch,
    FindHits,
    Ranking,
    TextSearch,
    TextsOf,
)
from mcontriever.evaluation.mteb_encoder import combined_meta, model_meta
from mcontriever.evaluation.mteb_search import Centre
from mcontriever.evidence_rule import DEFAULT_RULE
from mcontriever.progress import log
from mcontriever.retrieval.combined_search import CombinedSearch
from mcontriever.retrieval.dense_search import DenseSearch
from mcontriever.retrieval.fusion import BLENDED_DENSE_WEIGHT, Fusion, fuse
from mcontriever.retrieval.language_means import means_of_vectors
from mcontriever.retrieval.lexical_index import LexicalIndex, Term, subword_tokenizer, tokenize_words
from mcontriever.retrieval.lexical_search import LexicalSearch
from mcontriever.retrieval.rerank import Reranker
from mcontriever.retrieval.search_options import SearchOptions
from mcontriever.retrieval.searcher import MEMORY_MB, Index
from mcontriever.retrieval.store.embedding_store import EmbeddingStore
from mcontriever.retrieval.store.store_encoder import check_encoder, encoder_entry
from mcontriever.retrieval.terms import REVISION as WORDS_REVISION
from mcontriever.texts.documents import Document, Hit, Query
from mcontriever.tokens import load_tokenizer, tokenizer_fingerprint

CENTRED = " (centred)"
TEXTS_AT_ONCE = 4096


def searches(
    specs: dict[str, ModelSpec], center_languages: bool, rerank_depth: int, device: str
) -> Iterator[tuple[str, Any]]:
    """(label, search), one after another, so only one model is in memory."""
    for label, spec in specs.items():
        yield label, _search(spec, label, rerank_depth, _device(device), None)
        if center_languages:
            search = _search(spec, label + CENTRED, rerank_depth, _device(device), _centre)
            if is_centred(search):
                yield label + CENTRED, search
            else:
                log.info(f"{label} has no dense vectors to centre")


def _search(spec: ModelSpec, label: str, rerank_depth: int, device: str, centre: Centre | None) -> Any:
    if spec.fusion == "calibrated":
        return _calibrated(spec, label, rerank_depth, device)
    parts = [
        _bm25(part, label, as_shares=spec.fusion == "blend")
        if part.is_lexical
        else two_encoders_search(part.name, part.passages, label, device, centre)
        if part.kind == "two encoders"
        else sparse_search(part.kind, part.name, label, device)
        if part.kind in ("sparta", "splade")
        else encoder_search(part.name, label, device, centre)
        for part in spec.parts
    ]
    if len(parts) == 1 and not spec.reranker:
        return parts[0]
    setting = f"{spec.fusion} {BLENDED_DENSE_WEIGHT} {spec.reranker} {rerank_depth}"
    return CombinedMtebSearch(parts, _combine(spec, rerank_depth, device), combined_meta(label, parts, setting))


def _calibrated(spec: ModelSpec, label: str, rerank_depth: int, device: str) -> DocumentSearch:
    """A store of the documents, searched as `mcontriever search` does; nothing is found beyond its depth."""
    name = next(part.name for part in spec.parts if not part.is_lexical)
    encoder = Encoder.load(name, device=device, precision="auto")
    kinds = {part.kind for part in spec.parts}
    words, subwords = "bm25:words" in kinds, "bm25:subwords" in kinds
    options = SearchOptions(
        mode="hybrid" if words or subwords else "dense",
        terms="both" if words and subwords else "subwords" if subwords else "words",
        merge="calibrated",
        depth=rerank_depth,
    )

    def build(documents: list[Document]) -> FindHits:
        index = Index.build(encoder, documents)
        index.reranker = Reranker.load(spec.reranker, device) if spec.reranker else None

        def find(queries: Sequence[Query], k: int) -> Iterator[list[Hit]]:
            return index.search_many(queries, options=replace(options, k=min(k, options.depth)), texts=False)

        return find

    rule = encoder.evidence_rule or DEFAULT_RULE
    return DocumentSearch(build, combined_meta(label, [], f"{encoder.fingerprint()} {rule} {options} {spec.reranker}"))


def _combine(spec: ModelSpec, rerank_depth: int, device: str) -> Combine:
    """Fusion and re-ranking as `mcontriever search` does them."""
    reranker = Reranker.load(spec.reranker, device) if spec.reranker else None

    def combine(query: str, rankings: list[Ranking], texts_of: TextsOf) -> Ranking:
        dense = [ranking for part, ranking in zip(spec.parts, rankings, strict=True) if not part.is_lexical]
        lexical = [ranking for part, ranking in zip(spec.parts, rankings, strict=True) if part.is_lexical]
        order = fuse(dense, lexical, _fusion(spec))
        if reranker is None:
            return order
        return reranker.rerank(query, order, texts_of([position for position, _ in order[:rerank_depth]]))

    return combine


def _fusion(spec: ModelSpec) -> Fusion:
    return "blend" if spec.fusion == "blend" else "rrf"


def _bm25(spec: SearchSpec, label: str, *, as_shares: bool) -> TextSearch:
    if spec.kind == "bm25" and not as_shares:
        return TextSearch(_plain_bm25, model_meta(label, f"bm25s-{version('bm25s')}"))
    tokenizer = load_tokenizer(spec.name) if spec.name else None
    tokenize = tokenize_words if tokenizer is None else subword_tokenizer(tokenizer)

    def build(texts: list[str]) -> Any:
        index = LexicalIndex.build([texts], tokenize)
        return index.search_shares if as_shares else index.search

    return TextSearch(build, model_meta(label, _terms_revision(tokenizer)))


def _terms_revision(tokenizer: Any) -> str:
    return WORDS_REVISION if tokenizer is None else tokenizer_fingerprint(tokenizer)


def _plain_bm25(texts: list[str]) -> Any:
    """bm25s with its default settings, no stop words. A document that shares no word with the query is not a hit."""
    import bm25s

    corpus = bm25s.tokenize(texts, stopwords=None, show_progress=False)
    if not corpus.vocab:  # bm25s needs a term
        return lambda queries, k: (np.zeros((len(queries), k)), np.full((len(queries), k), -1))
    index = bm25s.BM25()
    index.index(corpus, show_progress=False)

    def find(queries: Sequence[str], k: int) -> tuple[np.ndarray, np.ndarray]:
        asked = bm25s.tokenize(list(queries), stopwords=None, show_progress=False)
        positions_QK, scores_QK = index.retrieve(asked, k=k, show_progress=False)
        return scores_QK, np.where(scores_QK > 0, positions_QK, -1)

    return find


def _centre(documents_DH: np.ndarray, languages: list[str]) -> np.ndarray:
    """Subtract each language's mean from its documents, as `mcontriever search --center-languages` does."""
    return documents_DH - means_of_vectors(documents_DH, languages).of(languages)


def open_passages(spec: ModelSpec, stores: Sequence[Path], rerank_depth: int, device: str) -> Passages:
    """The model's store, and its search over rows."""
    if not stores:
        raise ConfigError(
            "this suite searches a store of Wikipedia's passages, and no --store was given",
            fix="mcontriever embed psgs_w100.tsv.gz --model M --output STORE, then add --store STORE",
        )
    if spec.fusion == "calibrated":
        fix = "use hybrid:A,B or blend:A,B here, or mcontriever search STORE --queries FILE --trec"
        raise ConfigError("calibrated:A,B does not search a --store of passages", fix=fix)
    device, opened = _device(device), [EmbeddingStore.open(folder) for folder in stores]
    parts = [_store_search(part, opened, device, as_shares=spec.fusion == "blend") for part in spec.parts]
    store = parts[-1][0].store
    if any(len(search.store) != len(store) for search, _ in parts):
        fix = "embed the same corpus with both"
        raise StoreError("the two models' stores contain different passages", where=store.folder, fix=fix)
    if not store.manifest.layout.keeps_text:
        fix = "embed again without --no-text"
        raise StoreError("the store was made without texts, where answers are looked for", where=store.folder, fix=fix)
    numbered = list(zip(range(len(parts)), spec.parts, (search for search, _ in parts), strict=True))
    search = CombinedSearch(
        store=store,
        dense={f"dense {number}": search for number, part, search in numbered if not part.is_lexical},
        lexical={f"bm25 {number}": search for number, part, search in numbered if part.is_lexical},
        fusion=_fusion(spec),
        reranker=Reranker.load(spec.reranker, device) if spec.reranker else None,
        depth=rerank_depth,
    )
    revisions = [revision for _, revision in parts]
    combined = combined_meta("", [], " ".join([*revisions, spec.fusion, spec.reranker])).revision
    return Passages(
        count=len(store),
        revision=revisions[0] if len(parts) == 1 and not spec.reranker else str(combined),
        data_revision=store.manifest.rows_fingerprint(),
        find=lambda queries, k: _rows(search, queries, k),
        texts=lambda: _texts(store),
    )


def _store_search(
    spec: SearchSpec, stores: list[EmbeddingStore], device: str, as_shares: bool
) -> tuple[LexicalSearch | DenseSearch, str]:
    """A search of the store that belongs to it, and the revision of all that it uses."""
    if spec.is_lexical:
        # Over a store there is one kind of words, that of `mcontriever search`, whose index is kept beside the store.
        tokenizer = load_tokenizer(spec.name) if spec.name else None
        terms: Term = "subwords" if spec.name else "words"
        return LexicalSearch.open(stores[0], terms, tokenizer, as_shares=as_shares), _terms_revision(tokenizer)
    if spec.kind == "two encoders":
        fix = (
            f"mcontriever export {spec.label({})} --output FOLDER, then embed the passages with FOLDER and give it here"
        )
        raise ConfigError("a store is searched by the model that made it, which is one folder; dpr: names two", fix=fix)
    if spec.kind in ("sparta", "splade"):
        raise ConfigError(f"a store has dense vectors, {spec.kind}: sparse ones", fix="measure it on MTEB's tasks")
    encoder = Encoder.load(spec.name, device=device, precision="auto")
    store = _store_of(encoder, spec.name, stores)
    return DenseSearch.open(store, encoder, MEMORY_MB << 20), encoder.fingerprint()


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
