"""A store ready to be searched: dense, BM25 or both, optionally re-ranked; the same from Python and the command line.

index = Index.build(encoder, ["The river rises in the hills.", "ينبع النهر من التلال."])
for hit in index.search("Where does the river begin?", k=3):
    print(hit.score, hit.text)
"""

import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mcontriever.errors import ConfigError, DataError, ModelError, StoreError
from mcontriever.retrieval.embedding.planning import check_encoder
from mcontriever.retrieval.fusion import Fusion, blend, reciprocal_rank_fusion, weighted_fusion
from mcontriever.retrieval.language_filter import rows_in_languages
from mcontriever.retrieval.lexical import Term, Terms, open_lexical
from mcontriever.retrieval.ranking import Ranking, best_rows, rank_documents, why
from mcontriever.retrieval.store.embedding_store import EmbeddingStore, RowSearch
from mcontriever.retrieval.store.store_manifest import EncoderEntry
from mcontriever.texts.documents import Document, Hit, Query

if TYPE_CHECKING:
    from mcontriever.encoder import Encoder
    from mcontriever.retrieval.language_means import LanguageMeans
    from mcontriever.retrieval.rerank import Reranker

Mode = Literal["dense", "bm25", "hybrid"]
MEMORY_MB = 200
QUERIES_AT_ONCE = 256


@dataclass(frozen=True)
class SearchOptions:
    """`mode` None is dense, or bm25 for a store without vectors. `depth` documents go into fusion and re-ranking.

    `fusion` None blends where the encoder's similarity is the cosine, and goes by ranks where its scores have no scale.
    `dense_weight` None is BLENDED_DENSE_WEIGHT for a blend, else half; several BM25s get the rest.
    """

    k: int = 10
    mode: Mode | None = None
    index: str = "auto"
    languages: tuple[str, ...] = ()
    terms: Terms = "words"
    fusion: Fusion | None = None
    dense_weight: float | None = None
    depth: int = 100
    center_languages: bool = False

    def __post_init__(self) -> None:
        if self.k < 1 or self.depth < 1:
            raise ConfigError(f"k {self.k} and depth {self.depth} must be 1 or more", fix="give whole numbers from 1")
        if self.dense_weight is not None and not 0 <= self.dense_weight <= 1:
            raise ConfigError(f"a dense weight of {self.dense_weight}", fix="give a number from 0 to 1")


class Index:
    """`encoder` is loaded when first needed, unless given; it must be the one that made the store."""

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
        self._row_searches: dict[tuple[str, bool], RowSearch] = {}

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
        embed_documents(target, encoder, numbered)
        index = cls.open(target, encoder=encoder)
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
        """Hits for each query in turn, a few hundred searched at once."""
        options = options or SearchOptions()
        waiting: list[Query] = []
        for number, query in enumerate(queries):
            waiting.append(query if isinstance(query, Query) else Query(str(number), query))
            if not waiting[-1].text.strip():
                raise DataError(f"query {waiting[-1].id!r} is empty", fix="ask for something, or remove it")
            if len(waiting) == QUERIES_AT_ONCE:
                yield from self._search(waiting, options, texts)
                waiting = []
        if waiting:
            yield from self._search(waiting, options, texts)

    def center_queries(self, queries: Sequence[Query]) -> None:
        """From now on take off queries the means of these, by language."""
        from mcontriever.retrieval.language_means import means_of_vectors

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
        given = EncoderEntry(model=name, fingerprint=encoder.fingerprint(), spec=encoder.spec())
        check_encoder(made_by, given, self.store.folder)
        return encoder

    def _load_encoder(self, name: str) -> "Encoder":
        from mcontriever.encoder import Encoder

        try:
            return Encoder.load(name, light=True, precision="auto")
        except ModelError as error:
            fix = "say where the store's encoder is now: --model NAME (in Python: model=NAME)"
            raise ModelError(error.what, where=error.where or name, fix=fix) from error

    def _search(self, queries: list[Query], options: SearchOptions, texts: bool) -> Iterator[list[Hit]]:
        mode = options.mode or ("dense" if self.store.encoder else "bm25")
        terms: tuple[Term, ...] = ("words", "subwords") if options.terms == "both" else (options.terms,)
        fused = mode == "hybrid" or (mode == "bm25" and len(terms) > 1)
        fusion = options.fusion or self._usual_fusion(mode)
        wanted = max(options.depth, options.k) if fused or self.reranker else options.k
        allowed_N = self._allowed(options.languages)
        parts: dict[str, list[Ranking]] = {}
        if mode in ("dense", "hybrid"):
            parts["dense"] = self._dense(queries, wanted, allowed_N, options)
        if mode in ("bm25", "hybrid"):
            for kind in terms:
                name = "bm25" if len(terms) == 1 else f"bm25 {kind}"
                parts[name] = self._bm25(queries, wanted, allowed_N, kind, as_shares=fused and fusion == "blend")
        for number, query in enumerate(queries):
            found = {name: rankings[number] for name, rankings in parts.items()}
            yield self._hits(query, found, replace(options, fusion=fusion), texts)

    def _usual_fusion(self, mode: Mode) -> Fusion:
        return "blend" if mode == "bm25" or self.encoder.similarity == "cosine" else "rrf"

    def _hits(self, query: Query, found: dict[str, Ranking], options: SearchOptions, texts: bool) -> list[Hit]:
        order, rows = self._fuse(found, options), best_rows(list(found.values()))
        fused, reranked = dict(order), dict[int, float]()
        if self.reranker is not None:
            reranked = self._rerank(query, [document for document, _ in order[: options.depth]], rows)
            order = sorted(reranked.items(), key=lambda item: -item[1])
        order = order[: options.k]
        columns = ["id", "language", *(("title", "text") if texts and self.store.manifest.layout.keeps_text else ())]
        shown = self.store.rows_shown(np.array([rows[document] for document, _ in order], dtype=np.int64), columns)
        return [
            Hit(
                id=row["id"],
                score=score,
                rank=rank,
                language=row["language"],
                title=row.get("title", ""),
                text=row.get("text", ""),
                parts=why(document, found, fused, reranked),
            )
            for rank, ((document, score), row) in enumerate(zip(order, shown, strict=True), start=1)
        ]

    def _fuse(self, found: dict[str, Ranking], options: SearchOptions) -> list[tuple[int, float]]:
        rankings = [ranking.scores for ranking in found.values()]
        if len(rankings) == 1:
            return rankings[0]
        if options.fusion == "rrf":
            return reciprocal_rank_fusion(rankings)
        dense = [ranking.scores for name, ranking in found.items() if name == "dense"]
        lexical = [ranking.scores for name, ranking in found.items() if name != "dense"]
        if options.fusion == "blend":
            return blend(dense, lexical, options.dense_weight)
        share = (0.5 if options.dense_weight is None else options.dense_weight) if dense else 0.0
        return weighted_fusion([*dense, *lexical], [share] * len(dense) + [(1 - share) / len(lexical)] * len(lexical))

    def _rerank(self, query: Query, documents: list[int], rows: dict[int, int]) -> dict[int, float]:
        assert self.reranker is not None
        self._require_texts("re-ranking")
        shown = self.store.rows_shown(np.array([rows[document] for document in documents]), ["title", "text"])
        pairs = [(query.text, f"{row['title']} {row['text']}".strip()) for row in shown]
        return dict(zip(documents, self.reranker.scores(pairs), strict=True))

    def _dense(
        self, queries: list[Query], wanted: int, allowed_N: np.ndarray | None, options: SearchOptions
    ) -> list[Ranking]:
        queries_QH = self.encoder.embed_queries([query.text for query in queries])
        if self.query_means is not None:
            queries_QH = queries_QH - self.query_means.of([query.language for query in queries])
        search = self._row_search(options.index, options.center_languages)
        return rank_documents(self.store, search, queries_QH, len(queries), wanted, allowed_N)

    def _bm25(
        self,
        queries: list[Query],
        wanted: int,
        allowed_N: np.ndarray | None,
        terms: Term,
        *,
        as_shares: bool,
    ) -> list[Ranking]:
        self._require_texts("BM25")
        key = (f"bm25-{terms}", as_shares)
        if key not in self._row_searches:
            tokenizer = self.encoder.tokenizer if terms == "subwords" else None
            lexical = open_lexical(self.store, terms, tokenizer)
            self._row_searches[key] = lexical.search_shares if as_shares else lexical.search
        texts = [query.text for query in queries]
        return rank_documents(self.store, self._row_searches[key], texts, len(queries), wanted, allowed_N)

    def _row_search(self, index: str, centred: bool) -> RowSearch:
        key = (index, centred)
        if key not in self._row_searches:
            from mcontriever.retrieval.dense_search import open_dense_search

            means = self._means if centred else None
            self._row_searches[key] = open_dense_search(self.store, index, means, self.memory_mb << 20)
        return self._row_searches[key]

    @cached_property
    def _means(self) -> Any:
        from mcontriever.retrieval.language_means import open_language_means

        return open_language_means(self.store)

    def _allowed(self, languages: tuple[str, ...]) -> np.ndarray | None:
        if not languages:
            return self.store.live_N
        allowed_N = rows_in_languages(self.store, languages)
        return allowed_N if self.store.live_N is None else allowed_N & self.store.live_N

    def _require_texts(self, purpose: str) -> None:
        if not self.store.manifest.layout.keeps_text:
            raise StoreError(
                f"{purpose} needs the texts, and the store was made without them",
                where=self.store.folder,
                fix="embed again without --no-text, or search with --mode dense and no re-ranker",
            )
