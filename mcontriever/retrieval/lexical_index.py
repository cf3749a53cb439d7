"""BM25 over a store's texts, by words or by the encoder's subwords; bm25s scores and writes the files.

Shapes: N rows of the store, Q queries, K wanted.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mcontriever.errors import StoreError
from mcontriever.npy_files import header_parser
from mcontriever.progress import log, track
from mcontriever.retrieval.store import derived
from mcontriever.retrieval.store.embedding_store import EmbeddingStore
from mcontriever.retrieval.term_scores import K1, B, Tokenize, idf, score_terms
from mcontriever.retrieval.terms import REVISION, document_terms, index_terms

Term = Literal["words", "subwords"]
Terms = Literal["words", "subwords", "both"]
TEXTS_PER_CALL = 1000


def tokenize_words(texts: Sequence[str]) -> list[list[str]]:
    return [index_terms(text) for text in texts]


def tokenize_document_words(texts: Sequence[str]) -> list[list[str]]:
    return [document_terms(text) for text in texts]


def subword_tokenizer(tokenizer: Any) -> Tokenize:
    """Split texts as an encoder's tokenizer does."""
    from mcontriever.tokens import tokenize_texts

    def tokenize(texts: Sequence[str]) -> list[list[str]]:
        flat, lengths = tokenize_texts(tokenizer, texts, 1 << 30)
        ends = np.cumsum(lengths)
        names = flat.astype(str).tolist()
        return [names[end - length : end] for end, length in zip(ends.tolist(), lengths.tolist(), strict=True)]

    return tokenize


@dataclass(frozen=True, eq=False)
class LexicalIndex:
    """`model` is a bm25s.BM25 over rows."""

    model: Any
    tokenize: Tokenize

    @classmethod
    def build(
        cls, texts: Iterable[Sequence[str]], tokenize: Tokenize = tokenize_words, scratch: Path | None = None
    ) -> "LexicalIndex":
        """From batches of texts. In memory is the vocabulary; the rest lies in files that nobody sees."""
        import bm25s

        of_documents = tokenize_document_words if tokenize is tokenize_words else tokenize

        model = bm25s.BM25(k1=K1, b=B)
        model.vocab_dict, model.scores = score_terms(texts, of_documents, scratch)
        model.nonoccurrence_array = None
        return cls(model, tokenize)

    def save(self, folder: Path) -> None:
        self.model.save(str(folder), show_progress=False)

    @classmethod
    def load(cls, folder: Path, tokenize: Tokenize = tokenize_words) -> "LexicalIndex":
        import bm25s

        try:
            with header_parser:
                return cls(bm25s.BM25.load(str(folder), mmap=True, load_corpus=False), tokenize)
        except Exception as error:  # bm25s checks nothing, so damage shows as any exception
            fix = "remove this folder; the next search makes it again"
            raise StoreError(f"the BM25 index cannot be read: {error}", where=folder, fix=fix) from error

    def search(
        self, queries: Sequence[str], k: int, allowed_N: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """(scores_QK, rows_QK), best first; row -1 with score 0 where no more rows share a term with the query."""
        k = min(k, self.model.scores["num_docs"])
        scores_QK, rows_QK = np.zeros((len(queries), k), np.float32), np.full((len(queries), k), -1, np.int64)
        for number, terms in enumerate(self.tokenize(queries)):
            known = self.model.get_tokens_ids(terms)
            if known:
                scores, rows = top_rows(self.model.get_scores_from_ids(known), k, allowed_N)
                scores_QK[number, : len(rows)], rows_QK[number, : len(rows)] = scores, rows
        return scores_QK, rows_QK

    def search_shares(
        self, queries: Sequence[str], k: int, allowed_N: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """`search` with scores divided by each query's maximum: 0 to 1, comparable between queries."""
        scores_QK, rows_QK = self.search(queries, k, allowed_N)
        return scores_QK / self.attainable(queries)[:, None], rows_QK

    def scores_of(self, queries: Sequence[str], rows_QP: np.ndarray) -> np.ndarray:
        """scores_QP of each query with its own rows; NaN for row -1."""
        scores_QP = np.full(rows_QP.shape, np.nan, dtype=np.float32)
        for number, terms in enumerate(self.tokenize(queries)):
            known, wanted = self.model.get_tokens_ids(terms), rows_QP[number] >= 0
            if wanted.any():
                scores_N = self.model.get_scores_from_ids(known) if known else np.zeros(self.model.scores["num_docs"])
                scores_QP[number, wanted] = scores_N[rows_QP[number, wanted]]
        return scores_QP

    def attainable(self, queries: Sequence[str]) -> np.ndarray:
        """The maximum score of each query: the sum of its terms' IDF, including terms that no row has."""
        rows = self.model.scores["num_docs"]
        rows_with_V = np.diff(self.model.scores["indptr"])
        of_unknown = idf(rows, np.zeros(1))[0]
        idf_V = idf(rows, rows_with_V)
        found = []
        for terms in self.tokenize(queries):
            known = self.model.get_tokens_ids(terms)
            found.append(idf_V[known].sum() + of_unknown * (len(terms) - len(known)))
        return np.maximum(found, 1e-9)


def top_rows(scores_N: np.ndarray, k: int, allowed_N: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The best k rows with a score above 0; of equal scores the lower row first."""
    rows = np.flatnonzero(scores_N > 0 if allowed_N is None else (scores_N > 0) & allowed_N)
    scores = scores_N[rows]
    if len(rows) > k:
        threshold = np.partition(scores, len(scores) - k)[len(scores) - k]
        above, equal = np.flatnonzero(scores > threshold), np.flatnonzero(scores == threshold)
        kept = np.concatenate([above, equal[: k - len(above)]])
        rows, scores = rows[kept], scores[kept]
    order = np.lexsort((rows, -scores))
    return scores[order], rows[order]


def open_lexical_index(store: EmbeddingStore, terms: Term, tokenizer: Any = None) -> LexicalIndex:
    """The store's BM25 index; made if there is none for its present rows."""
    assert terms == "words" or tokenizer is not None
    tokenize = tokenize_words if terms == "words" else subword_tokenizer(tokenizer)
    kind = f"bm25-{terms}"
    revision = REVISION if terms == "words" else ""
    derived.ensure(
        store,
        kind,
        lambda: _build(store, kind, tokenize, revision),
        is_current=lambda: derived.is_fresh(store, kind) and _revision(store, kind) == revision,
    )
    return LexicalIndex.load(derived.folder_of(store, kind), tokenize)


def _revision(store: EmbeddingStore, kind: str) -> str:
    """Which rules made its terms; indexes of words from before there was a number have none."""
    return str((derived.manifest_of(store, kind) or {}).get("terms", ""))


def _build(store: EmbeddingStore, kind: str, tokenize: Tokenize, revision: str) -> None:
    if not store.manifest.layout.keeps_text:
        raise StoreError(
            "the store was made without texts, so BM25 has nothing to read",
            where=store.folder,
            fix="embed again without --no-text, or search with --mode dense",
        )
    log.info(f"making the {kind} index of {store.folder}, once")

    def make(folder: Path) -> None:
        with track(len(store), f"reading for {kind}", "rows") as progress:
            index = LexicalIndex.build(_texts(store, progress), tokenize, scratch=folder)
        index.save(folder)

    derived.write(store, kind, make, terms=revision)


def _texts(store: EmbeddingStore, progress: Any) -> Iterable[list[str]]:
    for titles, texts in store.text_batches(TEXTS_PER_CALL):
        yield [f"{title} {text}".strip() if title else text for title, text in zip(titles, texts, strict=True)]
        progress.advance(len(texts))
