"""Long documents cut into overlapping passages of about N words; a document is found by its best passage."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mcontriever.errors import ConfigError
from mcontriever.retrieval.terms import word_spans
from mcontriever.texts.documents import Document

if TYPE_CHECKING:
    from mcontriever.encoder import Encoder


@dataclass(frozen=True)
class PassageLength:
    """Words per passage, and words shared with the passage before; `word_spans` says what a word is."""

    words: int
    overlap: int

    def __post_init__(self) -> None:
        if self.words < 1 or not 0 <= self.overlap < self.words:
            raise ConfigError(
                f"passages of {self.words} words with an overlap of {self.overlap}",
                fix="give at least 1 word, and an overlap from 0 to less than the words",
            )


@dataclass(frozen=True, slots=True)
class Passage:
    """A row of a store: a document, or one part of it."""

    document: Document
    part: int
    text: str


def passages_of(document: Document, length: PassageLength | None) -> list[Passage]:
    texts = [document.text] if length is None else cut(document.text, length)
    return [Passage(document, part, text) for part, text in enumerate(texts)]


def embed_passages(encoder: "Encoder | None", passages: Sequence[Passage]) -> np.ndarray:
    """A row for each passage, which is read with its document's title; rows of width 0 without an encoder."""
    if encoder is None or not passages:
        return np.zeros((len(passages), encoder.dimension if encoder else 0), dtype=np.float32)
    titles = [passage.document.title for passage in passages]
    return encoder.embed_documents([passage.text for passage in passages], titles)


def cut(text: str, length: PassageLength) -> list[str]:
    """The passages of a text, in order; together they have all its words. A short text is one passage, unchanged."""
    spans = list(word_spans(text))
    if sum(weight for _, _, weight in spans) <= length.words:
        return [text]
    passages, first = [], 0
    while True:
        last = _advance(spans, first, length.words)
        start = 0 if first == 0 else spans[first][0]
        passages.append(text[start : len(text) if last == len(spans) else spans[last][0]].strip())
        if last == len(spans):
            return passages
        first = max(_retreat(spans, last, length.overlap), first + 1)


def _advance(spans: list[tuple[int, int, float]], first: int, budget: float) -> int:
    """The end of the passage that starts at span `first`: at least one span, at most `budget` words."""
    last = first
    while last < len(spans) and (last == first or budget >= spans[last][2]):
        budget -= spans[last][2]
        last += 1
    return last


def _retreat(spans: list[tuple[int, int, float]], last: int, budget: float) -> int:
    while budget >= spans[last - 1][2]:
        last -= 1
        budget -= spans[last][2]
    return last
