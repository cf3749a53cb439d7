"""A store that is served: searched as `mcontriever search` does, and opened again when it changes on disk.

The next opening is prepared beside the current one, which answers until then. Our own commands never change a file of a
store, so what was mapped stays valid; a search that meets files which a compaction has removed is repeated on the new
ones. A mapped file that somebody else cuts would end the process that reads it, so such a store is refused until it is
whole again.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcontriever.errors import ConfigError, UserError
from mcontriever.hub import is_bundled
from mcontriever.progress import log
from mcontriever.retrieval.search_options import SearchOptions, preference
from mcontriever.retrieval.searcher import Index
from mcontriever.retrieval.shared_words import shared_word_spans
from mcontriever.retrieval.store import derived
from mcontriever.retrieval.store.embedding_store import EmbeddingStore
from mcontriever.retrieval.store.store_manifest import MANIFEST
from mcontriever.retrieval.store_facts import documents_by_language, store_facts
from mcontriever.serving.asked import SearchRequest
from mcontriever.serving.refusals import RefusedError
from mcontriever.serving.served import SearchAnswer, StoreCard
from mcontriever.texts.documents import Hit

if TYPE_CHECKING:
    from mcontriever.assembly.shared_encoder import SharedEncoder
    from mcontriever.retrieval.rerank import Reranker

Mark = tuple[str, int, int]
FindEncoder = Callable[[EmbeddingStore], Any]
OPTIONS = set(SearchOptions.__dataclass_fields__) - {"k", "languages", "prefer"}
WARM_UP = "a"


@dataclass(frozen=True, eq=False)
class Opened:
    index: Index
    marks: tuple[Mark, ...]
    languages: dict[str, int]


class ServedStore:
    """`find_encoder` gives the store's encoder, loaded once for all stores that share it."""

    def __init__(
        self, name: str, folder: Path, *, find_encoder: FindEncoder, reranker: "Reranker | None", memory_mb: int
    ) -> None:
        self.name, self.folder = name, folder
        self._find_encoder, self._reranker, self._memory_mb = find_encoder, reranker, memory_mb
        self._opening = threading.Lock()
        self._failed: tuple[tuple[Mark, ...], str | None] | None = None
        self._facts: tuple[Opened, dict[str, Any]] | None = None
        self.cut_file: str | None = None
        self.is_there, self.reopened = True, 0
        self._opened = self._open()

    @property
    def encoder(self) -> "SharedEncoder | None":
        store = self._opened.index.store
        return self._find_encoder(store) if store.encoder else None

    def card(self) -> StoreCard:
        store = self._opened.index.store
        entry = store.encoder
        return StoreCard(
            name=self.name,
            documents=store.manifest.documents,
            passages=len(store) - len(store.deleted_rows),
            languages=self._opened.languages,
            modes=modes_of(store),
            model=model_name(entry.model) if entry else None,
            keeps_text=store.manifest.layout.keeps_text,
            reranks=self._reranker is not None,
            is_there=self.is_there and self.cut_file is None,
            reopened=self.reopened,
        )

    def search(self, requests: Sequence[SearchRequest]) -> list[SearchAnswer]:
        """For requests with the same `options_of`, all re-ranked or none."""
        first = requests[0]
        if first.rerank and self._reranker is None:
            raise ConfigError("the server has no cross-encoder", fix="omit rerank, or start it with --rerank MODEL")
        options = options_of(first)
        opened = self._opened
        try:
            found = self._found(opened, requests, options)
        except UserError as error:
            self.refresh()
            if self._opened is opened:  # else it was opened again, here or by the watcher
                raise self._public(error) from error
            return self.search(requests)
        return [
            SearchAnswer(self.name, [_shown(hit, request) for hit in hits[request.offset : request.offset + request.k]])
            for request, hits in zip(requests, found, strict=True)
        ]

    def refresh(self) -> bool:
        """Open the store again if it changed on disk; True if it did. If it cannot be opened, the open one stays."""
        with self._opening:
            marks = self._marks()
            self.is_there, self.cut_file = bool(marks), self._opened.index.store.cut_shard()
            state = (marks, self.cut_file)
            is_known = marks == self._opened.marks or state == self._failed
            if not marks or (is_known and self.cut_file is None):
                return False
            try:
                self._opened = self._open()
            except UserError as error:
                if state != self._failed:
                    outcome = "it is served as it was" if self.cut_file is None else "its requests are refused"
                    log.error(f"{self.name} changed and cannot be opened; {outcome}: {error}")
                self._failed = state
                return False
            self.cut_file = None
            self.reopened += 1
            log.info(f"{self.name} changed: {self._opened.index.store.manifest.described()}")
            return True

    def facts(self) -> dict[str, Any]:
        """Counted once for each state of the store."""
        self._require_whole()
        opened = self._opened
        if self._facts is None or self._facts[0] is not opened:
            try:
                self._facts = opened, {"store": self.name, **store_facts(opened.index.store)}
            except UserError as error:
                raise self._public(error) from error
        return self._facts[1]

    def _open(self) -> Opened:
        """Ready to answer in every mode: what is missing beside the store is made now."""
        marks = self._marks()
        store = EmbeddingStore.open(self.folder)
        encoder = self._find_encoder(store) if store.encoder else None
        index = Index(store, encoder=encoder, memory_mb=self._memory_mb)
        for mode in modes_of(store):
            index.search(WARM_UP, k=1, mode=mode)
        return Opened(index, marks, documents_by_language(store))

    def _found(self, opened: Opened, requests: Sequence[SearchRequest], options: SearchOptions) -> list[list[Hit]]:
        self._require_whole()
        index = opened.index
        index.reranker = self._reranker if requests[0].rerank else None
        return list(index.search_many([request.query for request in requests], options=options))

    def _require_whole(self) -> None:
        if not self.is_there:
            what = f"the store {self.name!r} is not there any more"
            fix = "put its folder back; the server then opens it again"
            raise RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, what, fix)
        if self.cut_file is not None:
            what = f"{self.cut_file} of the store {self.name!r} was cut while it was served"
            fix = "restore the file, or run mcontriever verify STORE --repair; the server then opens the store again"
            raise RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, what, fix)

    def _marks(self) -> tuple[Mark, ...]:
        """Changes with the store or an index beside it; empty without a store. What searches make is not part of it."""
        made = {*derived.MADE_BY_THEMSELVES, "bm25-words", "bm25-subwords"}
        paths = [path for path in (self.folder / derived.FOLDER).glob(f"*/{MANIFEST}") if path.parent.name not in made]
        try:
            states = [(path, path.stat()) for path in (self.folder / MANIFEST, *sorted(paths))]
        except FileNotFoundError:
            return ()
        return tuple((str(path), state.st_mtime_ns, state.st_ino) for path, state in states)

    def _public(self, error: UserError) -> UserError:
        """Without the store's folder, which clients must not see."""
        texts = [error.what, error.fix or ""]
        for folder in (str(self.folder.resolve()), str(self.folder)):
            texts = [text.replace(folder, self.name) for text in texts]
        return type(error)(texts[0], fix=texts[1] or None)


def options_of(request: SearchRequest) -> SearchOptions:
    prefer = preference(request.prefer) if isinstance(request.prefer, str) else request.prefer
    same = {name: getattr(request, name) for name in OPTIONS}
    return SearchOptions(k=request.offset + request.k, languages=request.language, prefer=prefer, **same)


def modes_of(store: EmbeddingStore) -> list[str]:
    has_vectors, has_texts = store.encoder is not None, store.manifest.layout.keeps_text
    modes = {"dense": has_vectors, "hybrid": has_vectors and has_texts, "bm25": has_texts}
    return [mode for mode, is_there in modes.items() if is_there]


def model_name(name: str) -> str:
    """Of a model in a folder, the folder's own name."""
    return name if is_bundled(name) or not Path(name).is_absolute() else Path(name).name


def _shown(hit: Hit, request: SearchRequest) -> dict[str, Any]:
    record = hit.record(request.explain)
    if request.marks:
        record["title_marks"] = shared_word_spans(request.query, hit.title)
        record["text_marks"] = shared_word_spans(request.query, hit.text)
    return record
