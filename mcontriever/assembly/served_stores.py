"""All that one server serves: stores by name, their encoders, a cross-encoder."""

import contextlib
import difflib
import threading
from collections.abc import Hashable, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mcontriever.assembly.served_store import ServedStore, options_of
from mcontriever.assembly.shared_encoder import SharedEncoder
from mcontriever.progress import log
from mcontriever.retrieval.searcher import Index
from mcontriever.retrieval.store.embedding_store import EmbeddingStore
from mcontriever.serving.asked import EmbedRequest, SearchRequest
from mcontriever.serving.refusals import RefusedError
from mcontriever.serving.served import Answer, Embedded, Job, StoreCard

if TYPE_CHECKING:
    from mcontriever.retrieval.rerank import Reranker

WATCH_SECONDS = 1.0


class ServedStores:
    """`model` is the stores' encoder, if it was moved."""

    def __init__(
        self,
        folders: Mapping[str, Path],
        *,
        model: str | None = None,
        reranker: "Reranker | None" = None,
        memory_mb: int,
    ) -> None:
        self._model = model
        self._encoders: dict[str, SharedEncoder] = {}
        self._stores = {
            name: ServedStore(name, folder, find_encoder=self._encoder_of, reranker=reranker, memory_mb=memory_mb)
            for name, folder in folders.items()
        }
        self._closed = threading.Event()
        threading.Thread(target=self._watch, daemon=True, name="watch").start()

    def cards(self) -> list[StoreCard]:
        return [store.card() for store in self._stores.values()]

    def models(self) -> list[str]:
        return list(dict.fromkeys(card.model for card in self.cards() if card.model))

    def facts(self, store: str | None) -> dict[str, Any]:
        return self._store(store).facts()

    def close(self) -> None:
        self._closed.set()

    def answer(self, jobs: Sequence[Job]) -> list[Answer | Exception]:
        """Queries are embedded together; then those with the same options are searched together."""
        answers: dict[int, Answer | Exception] = {}
        groups: dict[Hashable, list[int]] = {}
        for number, job in enumerate(jobs):
            try:
                groups.setdefault(self._shared_options(job), []).append(number)
            except Exception as error:
                answers[number] = error
        if len(groups) > 1:
            self._embed_queries([job for job in jobs if isinstance(job, SearchRequest)])
        for numbers in groups.values():
            try:
                found: Sequence[Answer | Exception] = self._answer_together([jobs[number] for number in numbers])
            except Exception as error:
                found = [error] * len(numbers)
            answers.update(zip(numbers, found, strict=True))
        return [answers[number] for number in range(len(jobs))]

    def _shared_options(self, job: Job) -> Hashable:
        if isinstance(job, SearchRequest):
            return self._store(job.store), options_of(job), job.rerank
        return self._encoder(job.model), job.kind

    def _answer_together(self, jobs: Sequence[Job]) -> Sequence[Answer]:
        searches = [job for job in jobs if isinstance(job, SearchRequest)]
        if searches:
            return self._store(searches[0].store).search(searches)
        return self._embedded([job for job in jobs if isinstance(job, EmbedRequest)])

    def _embed_queries(self, searches: Sequence[SearchRequest]) -> None:
        """All in one call for each encoder, which remembers them."""
        texts: dict[SharedEncoder, list[str]] = {}
        for job in searches:
            with contextlib.suppress(RefusedError):
                encoder = self._store(job.store).encoder
                if encoder is not None and job.mode != "bm25":
                    texts.setdefault(encoder, []).append(job.query)
        for encoder, queries in texts.items():
            encoder.embed_queries(queries)

    def _embedded(self, jobs: Sequence[EmbedRequest]) -> list[Answer]:
        name, encoder = self._encoder(jobs[0].model)
        texts = [text for job in jobs for text in job.texts]
        is_query = jobs[0].kind == "query"
        vectors_NH = encoder.embed_queries(texts) if is_query else encoder.embed_documents(texts)
        ends = np.cumsum([len(job.texts) for job in jobs])[:-1]
        return [
            Embedded(name, own_NH, encoder.count_tokens(job.texts))
            for job, own_NH in zip(jobs, np.split(vectors_NH, ends), strict=True)
        ]

    def _store(self, name: str | None) -> ServedStore:
        if name is None:
            return next(iter(self._stores.values()))
        if name not in self._stores:
            raise RefusedError(HTTPStatus.NOT_FOUND, f"no store {name!r} is served", _advice(name, list(self._stores)))
        return self._stores[name]

    def _encoder(self, name: str | None) -> tuple[str, SharedEncoder]:
        """By its own name, or by a store's."""
        for store in self._stores.values():
            model, encoder = store.card().model, store.encoder
            if encoder is not None and model is not None and name in (None, model, store.name):
                return model, encoder
        if not self.models():
            raise RefusedError(
                HTTPStatus.CONFLICT, "no store here has vectors, so there is no model", "serve one that has"
            )
        raise RefusedError(HTTPStatus.NOT_FOUND, f"no model {name!r} is served", _advice(str(name), self.models()))

    def _encoder_of(self, store: EmbeddingStore) -> SharedEncoder:
        """Checked to be the one that made the store."""
        assert store.encoder is not None
        mark = store.encoder.fingerprint
        if mark not in self._encoders:
            self._encoders[mark] = SharedEncoder(Index(store, model=self._model).encoder)
        return self._encoders[mark]

    def _watch(self) -> None:
        while not self._closed.wait(WATCH_SECONDS):
            for store in self._stores.values():
                try:
                    store.refresh()
                except Exception as error:
                    log.error(f"looking after {store.name} failed", exc_info=error)


def _advice(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else f"choose among {', '.join(known)}"
