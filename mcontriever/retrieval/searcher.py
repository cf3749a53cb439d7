"""A store ready for search: dense, BM25 or both, optionally re-ranked; the same in Python and on the command line.

index = Index.build(encoder, ["The river rises in the hills.", "ينبع النهر من التلال."])
for hit in index.search("Where does the river begin?", k=3):
    print(hit.score, hit.text)
"""

import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mcontriever.errors import DataError, ModelError, StoreError
from mcontriever.progress import log
from mcontriever.retrieval.combined_search import CombinedSearch, RankedDocument
from mcontriever.retrieval.fusion import Fusion
from mcontriever.retrieval.language_filter import rows_in_languages
from mcontriever.retrieval.language_means import LanguageMeans, means_of_vectors
from mcontriever.retrieval.lexical_evidence import LexicalEvidence
from mcontriever.retrieval.lexical_index import Term
from mcontriever.retrieval.lexical_search import LexicalSearch
from mcontriever.retrieval.search_options import Mode, SearchOptions
from mcontriever.retrieval.store.embedding_store import EmbeddingStore
from mcontriever.retrieval.store.store_encoder import check_searching_encoder
from mcontriever.retrieval.store_calibration import holds_several_languages
from mcontriever.retrieval.unanswered import Unanswered, open_unanswered
from mcontriever.row_search import RowSearch
from mcontriever.texts.documents import Document, Hit, Query

if TYPE_CHECKING:
    from mcontriever.encoder import Encoder
    from mcontriever.retrieval.calibrated_search import CalibratedSearch
    from mcontriever.retrieval.dense_search import DenseSearch
    from mcontriever.retrieval.rerank import Reranker
    from mcontriever.retrieval.vector_search.milvus_words import MilvusWords

__all__ = ["Index", "SearchOptions"]

MEMORY_MB = 200
QUERIES_AT_ONCE = 256

CALIBRATED_WORDS = (
    "words: by this package's BM25, because calibrated search weighs a word by how rare it is in each language, which "
    "Milvus's scores do not tell; --merge raw takes Milvus's"
)


class Index:
    """`encoder` must be the one that made the store; if it is not given it is loaded when first needed."""

    def __init__(
        self,
        store: EmbeddingStore,
        *,
        encoder: "Encoder | None" = None,
        model: str | None = None,
        reranker: "Reranker | None" = None,
        memory_mb: int = MEMORY_MB,
    ) -> None:
        self.store = store
        self.reranker = reranker
        self.memory_mb = memory_mb
        self.query_means: LanguageMeans | None = None
        self._model = model
        self._given_encoder = encoder
        self._searches: dict[tuple[str, str | bool], Any] = {}

    @classmethod
    def open(cls, folder: str | Path, **settings: Any) -> "Index":
        """Open a store that `mcontriever embed` or `Index.build` made."""
        return cls(EmbeddingStore.open(folder), **settings)

    @classmethod
    def build(
        cls, encoder: "Encoder", documents: Iterable[str | Document], folder: str | Path | None = None
    ) -> "Index":
        """Embed texts (their ids are then 0, 1, 2...) or documents, into `folder` or a temporary one."""
        from mcontriever.retrieval.embedding.embedding_run import embed_documents

        target = Path(folder or tempfile.mkdtemp(prefix="mcontriever-"))
        numbered = (
            item if isinstance(item, Document) else Document(str(number), item) for number, item in enumerate(documents)
        )
        try:
            embed_documents(target, encoder, numbered)
            index = cls.open(target, encoder=encoder)
        except BaseException:
            if folder is None:
                shutil.rmtree(target, ignore_errors=True)
            raise
        if folder is None:
            weakref.finalize(index, shutil.rmtree, target, ignore_errors=True)
        return index

    def search(
        self, query: str | Query, k: int = 10, *, options: SearchOptions | None = None, **changes: Any
    ) -> list[Hit]:
        """The best k documents, each with its best passage. `changes` are fields of SearchOptions."""
        return next(self.search_many([query], options=replace(options or SearchOptions(), k=k, **changes)))

    def search_many(
        self, queries: Iterable[str | Query], *, options: SearchOptions | None = None, texts: bool = True
    ) -> Iterator[list[Hit]]:
        """Hits for each query in order; a few hundred are searched at once."""
        options = options or SearchOptions()
        waiting: list[Query] = []
        for number, query in enumerate(queries):
            waiting.append(query if isinstance(query, Query) else Query(str(number), query))
            if not waiting[-1].text.strip():
                raise DataError(f"query {waiting[-1].id!r} is empty", fix="give it text, or remove it")
            if len(waiting) == QUERIES_AT_ONCE:
                yield from self._search(waiting, options, texts)
                waiting = []
        if waiting:
            yield from self._search(waiting, options, texts)

    def center_queries(self, queries: Sequence[Query]) -> None:
        """Subtract from all later queries the means of these, by language."""
        embedded_QH = self.encoder.embed_queries([query.text for query in queries])
        self.query_means = means_of_vectors(embedded_QH, [query.language for query in queries])

    @cached_property
    def encoder(self) -> "Encoder":
        made_by = self.store.encoder
        if made_by is None:
            raise StoreError(
                "the store has no vectors (it was made with --model bm25)",
                where=self.store.folder,
                fix="search with --mode bm25, or embed the corpus with an encoder",
            )
        encoder = self._given_encoder or self._load_encoder(self._model or made_by.model)
        name = self._model or ("the one given" if self._given_encoder is not None else made_by.model)
        check_searching_encoder(made_by, name, encoder, self.store.folder)
        return encoder

    def _load_encoder(self, name: str) -> "Encoder":
        from mcontriever.encoder import Encoder

        try:
            return Encoder.load(name, light=True, precision="auto")
        except ModelError as error:
            fix = "give the current path of the store's encoder: --model NAME (in Python: model=NAME)"
            raise ModelError(error.what, where=error.where or name, fix=fix) from error

    def _search(self, queries: list[Query], options: SearchOptions, texts: bool) -> Iterator[list[Hit]]:
        allowed_N = rows_in_languages(self.store, options.languages) if options.languages else None
        search = self._calibrated(options) if self._is_calibrated(options) else self._combined(options)
        for ranked in search.rank(queries, options.k, allowed_N):
            sure = [one for one in ranked if one.confidence is None or one.confidence >= options.min_confidence]
            yield self._hits(sure, texts)

    def _mode(self, options: SearchOptions) -> Mode:
        return options.mode or ("dense" if self.store.encoder else "bm25")

    def _is_calibrated(self, options: SearchOptions) -> bool:
        mode = self._mode(options)
        if options.merge is not None or mode == "bm25":
            return options.merge == "calibrated" and mode != "bm25"
        if options.asks_for_raw_scores or self.query_means is not None:
            return False
        is_asked_for = options.min_confidence > 0 or options.prefer != 0
        return mode == "hybrid" or is_asked_for or holds_several_languages(self.store)

    def _calibrated(self, options: SearchOptions) -> "CalibratedSearch":
        from mcontriever.retrieval.calibrated_search import CalibratedSearch

        terms = self._terms(options) if self._mode(options) == "hybrid" else ()
        lexical = [self._evidence(term) for term in terms]
        if self.reranker is not None:
            self._require_texts("re-ranking")
        search = CalibratedSearch(store=self.store, dense=self._calibrated_dense(options.index), lexical=lexical)
        if lexical and search.dense.kind == "milvus" and ("words", "told") not in self._searches:
            self._searches["words", "told"] = True
            log.info(CALIBRATED_WORDS)
        return replace(
            search,
            unanswered=self._unanswered(search, options.terms if lexical else "dense"),
            prefer=options.prefer,
            reranker=self.reranker,
            depth=options.depth,
        )

    def _unanswered(self, search: "CalibratedSearch", way: str) -> Unanswered:
        key = ("unanswered", way)
        if key not in self._searches:
            self._searches[key] = open_unanswered(self.store, way, search.best_scores)
        found: Unanswered = self._searches[key]
        return found

    def _calibrated_dense(self, index: str) -> "DenseSearch":
        from mcontriever.retrieval.dense_search import DenseSearch

        key = ("calibrated", index)
        if key not in self._searches:
            memory = self.memory_mb << 20
            self._searches[key] = DenseSearch.calibrated(self.store, self.encoder, memory, index=index)
        return self._searches[key]

    def _evidence(self, terms: Term) -> LexicalEvidence:
        codes_N, names = self.store.text_languages
        return LexicalEvidence.of(self._lexical(terms, as_shares=True).index, codes_N, len(names))

    def _terms(self, options: SearchOptions) -> tuple[Term, ...]:
        return ("words", "subwords") if options.terms == "both" else (options.terms,)

    def _combined(self, options: SearchOptions) -> CombinedSearch:
        mode, terms = self._mode(options), self._terms(options)
        dense = {} if mode == "bm25" else {"dense": self._dense(options.index, options.center_languages)}
        in_milvus = self._milvus_words(options, dense["dense"].kind if dense else options.index)
        fusion = options.fusion or ("rrf" if in_milvus else self._usual_fusion(mode))
        as_shares = fusion == "blend" and (mode == "hybrid" or len(terms) > 1)
        if self.reranker is not None:
            self._require_texts("re-ranking")
        lexical: dict[str, RowSearch] = {}
        if in_milvus:
            lexical = {"milvus_bm25": in_milvus}
        elif mode != "dense":
            names = {term: "bm25" if len(terms) == 1 else f"bm25 {term}" for term in terms}
            lexical = {name: self._lexical(term, as_shares) for term, name in names.items()}
        return CombinedSearch(
            store=self.store,
            dense=dense,
            lexical=lexical,
            fusion=fusion,
            dense_weight=options.dense_weight,
            reranker=self.reranker,
            depth=options.depth,
        )

    def _milvus_words(self, options: SearchOptions, index: str) -> "MilvusWords | None":
        """Where vectors are searched in Milvus, its own BM25, if it has one; a blend needs scores of ours."""
        is_asked = index == "milvus" and self._mode(options) != "dense"
        if not is_asked or options.terms != "words" or options.fusion == "blend":
            return None
        from mcontriever.retrieval.vector_search.milvus_words import MilvusWords

        if ("bm25", "milvus") not in self._searches:
            self._searches["bm25", "milvus"] = MilvusWords.open(self.store)
        words: MilvusWords | None = self._searches["bm25", "milvus"]
        return words

    def _usual_fusion(self, mode: Mode) -> Fusion:
        return "blend" if mode == "bm25" or self.encoder.similarity == "cosine" else "rrf"

    def _dense(self, index: str, centred: bool) -> "DenseSearch":
        from mcontriever.retrieval.dense_search import DenseSearch

        key = (index, centred)
        if key not in self._searches:
            memory = self.memory_mb << 20
            self._searches[key] = DenseSearch.open(self.store, self.encoder, memory, index=index, centred=centred)
        return replace(self._searches[key], query_means=self.query_means)

    def _lexical(self, terms: Term, as_shares: bool) -> LexicalSearch:
        self._require_texts("BM25")
        key = ("bm25", terms)
        if key not in self._searches:
            tokenizer = self.encoder.tokenizer if terms == "subwords" else None
            self._searches[key] = LexicalSearch.open(self.store, terms, tokenizer)
        return replace(self._searches[key], as_shares=as_shares)

    def _hits(self, ranked: Sequence[RankedDocument], texts: bool) -> list[Hit]:
        columns = ["id", "language", *(("title", "text") if texts and self.store.manifest.layout.keeps_text else ())]
        shown = self.store.rows_shown(np.array([one.row for one in ranked], dtype=np.int64), columns)
        return [
            Hit(
                id=row["id"],
                score=one.score,
                rank=rank,
                language=row["language"],
                title=row.get("title", ""),
                text=row.get("text", ""),
                parts=one.parts,
                confidence=one.confidence,
            )
            for rank, (one, row) in enumerate(zip(ranked, shown, strict=True), start=1)
        ]

    def _require_texts(self, purpose: str) -> None:
        if not self.store.manifest.layout.keeps_text:
            raise StoreError(
                f"{purpose} needs the texts, and the store was made without them",
                where=self.store.folder,
                fix="embed again without --no-text, or search with --mode dense and no re-ranker",
            )
