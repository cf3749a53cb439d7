"""What a server serves, as it sees it: named stores and models that answer several requests at once."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from mcontriever.serving.asked import EmbedRequest, SearchRequest

Job = SearchRequest | EmbedRequest


@dataclass(frozen=True)
class SearchAnswer:
    store: str
    hits: list[dict[str, Any]]


@dataclass(frozen=True, eq=False)
class Embedded:
    model: str
    vectors_NH: np.ndarray
    tokens: int


Answer = SearchAnswer | Embedded


@dataclass(frozen=True)
class StoreCard:
    """What a client may know of a store. `languages` are its documents' by language; `reopened`: how often."""

    name: str
    documents: int
    passages: int
    languages: dict[str, int]
    modes: list[str]
    model: str | None
    keeps_text: bool
    reranks: bool
    is_there: bool = True
    reopened: int = field(default=0, compare=False)


class Served(Protocol):
    """`answer` and `facts` are called from one thread at a time."""

    def cards(self) -> list[StoreCard]: ...

    def models(self) -> list[str]: ...

    def answer(self, jobs: Sequence[Job]) -> list[Answer | Exception]:
        """Of each job, in order; what was wrong with one of them is its answer."""
        ...

    def facts(self, store: str | None) -> dict[str, Any]: ...

    def close(self) -> None: ...
