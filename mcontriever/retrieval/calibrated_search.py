"""Search in many languages: calibrated scores of the encoder, and shared words as evidence within a language.

    score = evidence of z + words * (share - best * best share of the language - FAMILIAR * own) + prefer * own

All of it is evidence in nats. z is the encoder's score in deviations (calibration.py), and its evidence is how
surprising it is for an unrelated document: an encoder whose right answers stand far out is believed for that, one whose
answers hardly do leaves more to words. The words that a document shares with the query are compared with the best
document of its language: where another shares many more, this one is less likely, not more, than a document in a
language that could share none. Documents in the query's own language share common words and topics with any query, so
FAMILIAR is subtracted from them; `own` is 1 in the query's language as its words tell (lexical_evidence.py). `prefer`
is the user's. The evidence of z, `words` and `best` are the model's rule (evidence_rule.py), FAMILIAR is one for all.

Shapes: N rows of the store, Q queries, L languages, P given rows of a query (-1: none).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mcontriever.retrieval.combined_search import RankedDocument, rerank_best
from mcontriever.retrieval.dense_search import DenseAnswer, DenseSearch
from mcontriever.retrieval.lexical_evidence import LexicalEvidence, Shares, root_mean_square
from mcontriever.retrieval.lexical_index import top_rows
from mcontriever.retrieval.ranking import Ranking, rank_documents
from mcontriever.retrieval.rerank import Reranker
from mcontriever.retrieval.store.embedding_store import EmbeddingStore
from mcontriever.retrieval.unanswered import Unanswered
from mcontriever.texts.documents import Query

FAMILIAR = 0.05
DEPTH_WITHOUT_ANSWER = 20


@dataclass(frozen=True, eq=False)
class Evidence:
    """What the words of one query say: of the best rows by words, and of the best documents by vectors."""

    lexical: Ranking
    share_of_document: dict[int, float]
    best_L: np.ndarray
    own_L: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class CalibratedSearch:
    """`dense` is calibrated. `lexical` has an entry for each kind of terms; none: by vectors alone.

    Without `unanswered` hits have no confidence.
    """

    store: EmbeddingStore
    dense: DenseSearch
    lexical: Sequence[LexicalEvidence] = ()
    unanswered: Unanswered | None = None
    prefer: float = 0.0
    reranker: Reranker | None = None
    depth: int = 100

    def rank(
        self, queries: Sequence[Query], k: int, allowed_N: np.ndarray | None = None
    ) -> Iterator[list[RankedDocument]]:
        """The best k documents of each query, among the rows allowed."""
        allowed_N = self.store.live_N if allowed_N is None else allowed_N
        answer = self.dense.ask(queries)
        wanted = max(self.depth, k) if self.lexical or self.reranker or self.prefer else k
        return self._merged(queries, answer, rank_documents(self.store, answer, wanted, allowed_N), k, allowed_N)

    def best_scores(self, questions: Sequence[str], without: Sequence[slice]) -> list[float]:
        """As `unanswered` asks: of each question without its rows, a re-ranker and the user's preference.

        Vectors are searched for all questions at once, as deep as it takes to lose a document.
        """
        plain = replace(self, unanswered=None, prefer=0.0, reranker=None, depth=DEPTH_WITHOUT_ANSWER)
        queries, documents_N = [Query("", question) for question in questions], self.store.documents_N
        answer, scores = self.dense.ask(queries), []
        by_vectors = rank_documents(self.store, answer, plain.depth + 1, self.store.live_N)
        for number, (query, own) in enumerate(zip(queries, without, strict=True)):
            allowed_N = np.ones(len(self.store), dtype=bool) if self.store.live_N is None else self.store.live_N.copy()
            allowed_N[own] = False
            others = by_vectors[number].without(own.start if documents_N is None else int(documents_N[own.start]))
            best = next(plain._merged([query], answer.one(number), [others], 1, allowed_N))
            scores += [one.score - math.log(np.count_nonzero(allowed_N)) for one in best]
        return scores

    def _merged(
        self,
        queries: Sequence[Query],
        answer: DenseAnswer,
        by_vectors: Sequence[Ranking],
        k: int,
        allowed_N: np.ndarray | None,
    ) -> Iterator[list[RankedDocument]]:
        wanted = max(self.depth, k)
        evidence = [
            self._evidence(query, found, wanted, allowed_N) for query, found in zip(queries, by_vectors, strict=True)
        ]
        by_words = self._scores_of(answer, by_vectors, evidence)
        rows = len(self.store) if allowed_N is None else int(np.count_nonzero(allowed_N))
        for number, query in enumerate(queries):
            z_of = {**by_words[number], **dict(by_vectors[number].scores)}
            row_of = {**evidence[number].lexical.rows, **by_vectors[number].rows}
            ranked = self._ranked(z_of, row_of, evidence[number], wanted, rows)
            ranked = self._explained(ranked[: wanted if self.reranker else k], answer, number)
            if self.reranker is not None:
                ranked = rerank_best(self.reranker, self.store, query, ranked, self.depth)
            yield ranked[:k]

    def _evidence(self, query: Query, found: Ranking, wanted: int, allowed_N: np.ndarray | None) -> Evidence:
        languages = len(self.store.text_languages[1])
        if not self.lexical:
            return Evidence(Ranking([], {}), {}, np.zeros(languages), self._named_language(query))
        shares = root_mean_square(
            [kind.shares(kind.index.tokenize([query.text])[0], allowed_N) for kind in self.lexical]
        )
        scores, rows = top_rows(shares.shares_N, min(wanted, len(self.store)))
        lexical = Ranking.of_rows(scores, rows, self.store.documents_N, wanted)
        share_of = {document: self._share(shares, document, row) for document, row in found.rows.items()}
        return Evidence(lexical, {**share_of, **dict(lexical.scores)}, shares.best_L, shares.own_L)

    def _share(self, shares: Shares, document: int, row: int) -> float:
        """The best of the document's rows."""
        documents_N = self.store.documents_N
        if documents_N is None:
            return float(shares.shares_N[row])
        first, stop = np.searchsorted(documents_N, [document, document + 1])
        return float(shares.shares_N[first:stop].max())

    def _named_language(self, query: Query) -> np.ndarray:
        """Without words to go by, the language that the query says it is in."""
        return np.array([float(bool(name) and name == query.language) for name in self.store.text_languages[1]])

    def _scores_of(
        self, answer: DenseAnswer, by_vectors: Sequence[Ranking], evidence: Sequence[Evidence]
    ) -> list[dict[int, float]]:
        """The encoder's scores of documents that only words have found, by their best row in words."""
        missing = [
            [(document, row) for document, row in one.lexical.rows.items() if document not in found.rows]
            for found, one in zip(by_vectors, evidence, strict=True)
        ]
        rows_QP = np.full((len(missing), max(map(len, missing), default=0)), -1, dtype=np.int64)
        for number, pairs in enumerate(missing):
            rows_QP[number, : len(pairs)] = [row for _, row in pairs]
        scores = answer.scores_of(rows_QP).tolist()
        return [
            {document: scores[number][place] for place, (document, _) in enumerate(pairs)}
            for number, pairs in enumerate(missing)
        ]

    def _ranked(
        self, z_of: dict[int, float], row_of: dict[int, int], evidence: Evidence, wanted: int, rows: int
    ) -> list[RankedDocument]:
        documents = np.array(list(z_of), dtype=np.int64)
        codes = self.store.text_languages[0][[row_of[document] for document in z_of]]
        shares = np.array([evidence.share_of_document.get(document, 0.0) for document in z_of])
        z = np.array(list(z_of.values()), dtype=np.float64)
        rule = self.store.evidence_rule
        evidence_of_z = rule.of_scores(z)
        lexical = rule.of_words(shares, evidence.best_L[codes])
        familiar = rule.words * FAMILIAR if self.lexical else 0.0
        language = (self.prefer - familiar) * evidence.own_L[codes]
        scores = evidence_of_z + lexical + language
        sure = None
        if self.unanswered is not None:
            sure = self.unanswered.confidence(scores - self.prefer * evidence.own_L[codes], rows)
        ranked = []
        for place in np.lexsort((documents, -scores))[:wanted].tolist():
            parts = {"calibrated": float(z[place]), "vectors": float(evidence_of_z[place])}
            if self.lexical:
                parts |= {"bm25": float(shares[place]), "lexical": float(lexical[place])}
            parts["language"] = float(language[place])
            document = int(documents[place])
            confidence = None if sure is None else float(sure[place])
            ranked.append(RankedDocument(document, row_of[document], float(scores[place]), parts, confidence))
        return ranked

    def _explained(self, ranked: Sequence[RankedDocument], answer: DenseAnswer, number: int) -> list[RankedDocument]:
        """With the encoder's own score."""
        raw = answer.raw_scores_of(number, np.array([one.row for one in ranked], dtype=np.int64)).tolist()
        return [replace(one, parts={"dense": score, **one.parts}) for one, score in zip(ranked, raw, strict=True)]
