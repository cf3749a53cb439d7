"""How high questions score that a store cannot answer, measured on the store: what makes a hit's score surprising.

Pieces of the store's own texts are asked, each without its own document. Their best scores are what chance, and
passages about similar things, give here. A hit's confidence is a logistic function of how many deviations its score
lies above their mean. Collections differ widely: where no two passages are about the same thing those scores are low
and close together, where many stand about one article they are high and far apart.

Kept beside the store for each way of searching it, made at the first search, and again when the store has a quarter
more rows or a fifth fewer. Scores are less the log of the number of rows: of n unrelated rows exp(-score) * n are
expected to score as high by chance.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from mcontriever.errors import StoreError
from mcontriever.records import checked_record
from mcontriever.retrieval.store import derived
from mcontriever.retrieval.store.embedding_store import EmbeddingStore
from mcontriever.retrieval.terms import word_spans

REVISION = 1  # what an earlier rule has measured is measured again
DOUBT = 1.3  # deviations at which a hit is as likely right as wrong; for nano and mini on even questions
QUESTIONS = 128
LEAST_WORDS, MOST_WORDS = 4, 10
USUAL_MEAN, USUAL_DEVIATION, USUAL_WEIGHT = 3.0, 7.0, 8  # believed as if so many questions had shown it

# questions, and the rows that each must not find -> their best scores less the log of the number of rows
BestScores = Callable[[Sequence[str], Sequence[slice]], list[float]]


@dataclass(frozen=True)
class Unanswered:
    """Mean and deviation of the best scores, less the log of the number of rows, of questions without an answer."""

    mean: float
    deviation: float

    @classmethod
    def of_scores(cls, scores: list[float]) -> "Unanswered":
        """Few questions lean on what is usual."""
        weight = len(scores) / (len(scores) + USUAL_WEIGHT)
        mean = weight * float(np.mean(scores or [0.0])) + (1 - weight) * USUAL_MEAN
        deviation = weight * float(np.std(scores or [0.0])) + (1 - weight) * USUAL_DEVIATION
        return cls(mean, deviation)

    def confidence(self, scores: np.ndarray, rows: int) -> np.ndarray:
        """How probable it is that a hit answers, if as many questions have an answer in the store as have none."""
        deviations = (scores - math.log(max(rows, 1)) - self.mean) / self.deviation
        found: np.ndarray = 1 / (1 + np.exp(-np.clip(deviations - DOUBT, -50, 50)))
        return found


@dataclass(frozen=True)
class _Facts:
    revision: int
    live_rows: int
    mean: float
    deviation: float


def open_unanswered(store: EmbeddingStore, way: str, best_scores: BestScores) -> Unanswered:
    """What is kept for a way of searching. `best_scores` searches that way."""
    kind = f"unanswered-{way}"
    if not store.manifest.layout.keeps_text:
        return Unanswered.of_scores([])
    try:
        derived.ensure(store, kind, lambda: _make(store, kind, best_scores), lambda: _kept(store, kind) is not None)
    except PermissionError:  # a store that we may only read
        return measure(store, best_scores)
    kept = _kept(store, kind)
    assert kept is not None
    return Unanswered(kept.mean, kept.deviation)


def measure(store: EmbeddingStore, best_scores: BestScores) -> Unanswered:
    """Ask pieces of evenly drawn texts, each without its own document."""
    live_N = np.ones(len(store), dtype=bool) if store.live_N is None else store.live_N
    random = np.random.default_rng(0)
    live_rows = np.flatnonzero(live_N)
    rows = np.sort(random.choice(live_rows, min(QUESTIONS, len(live_rows)), replace=False))
    pairs = [
        (piece_of(shown["text"], random), _rows_of_document(store, row))
        for row, shown in zip(rows.tolist(), store.rows_shown(rows, ["text"]), strict=True)
    ]
    asked = [(question, own) for question, own in pairs if question]
    return Unanswered.of_scores(best_scores(*zip(*asked, strict=True)) if asked else [])


def piece_of(text: str, random: np.random.Generator) -> str:
    """Some words in a row; a character of a script without spaces counts as half a word."""
    spans = list(word_spans(text))
    if not spans:
        return ""
    wanted, first = float(random.integers(LEAST_WORDS, MOST_WORDS + 1)), int(random.integers(len(spans)))
    while first and sum(weight for _, _, weight in spans[first:]) < wanted:
        first -= 1
    last = first
    while last + 1 < len(spans) and (wanted := wanted - spans[last][2]) > 0:
        last += 1
    return text[spans[first][0] : spans[last][1]]


def _rows_of_document(store: EmbeddingStore, row: int) -> slice:
    if store.documents_N is None:
        return slice(row, row + 1)
    document = store.documents_N[row]
    first, stop = np.searchsorted(store.documents_N, [document, document + 1])
    return slice(int(first), int(stop))


def _make(store: EmbeddingStore, kind: str, best_scores: BestScores) -> None:
    found = measure(store, best_scores)
    derived.write(store, kind, lambda folder: None, revision=REVISION, live_rows=_live_rows(store), **asdict(found))


def _kept(store: EmbeddingStore, kind: str) -> _Facts | None:
    """None where there is none that is whole, of this rule and of about as many rows."""
    try:
        manifest = derived.manifest_of(store, kind)
        if manifest is None:
            return None
        facts = checked_record(manifest, _Facts, derived.folder_of(store, kind) / derived.MANIFEST)
    except StoreError:
        return None
    is_usable = facts.revision == REVISION and math.isfinite(facts.mean) and 0 < facts.deviation < math.inf
    smaller, larger = sorted([facts.live_rows, _live_rows(store)])
    return facts if is_usable and smaller * 5 >= larger * 4 else None


def _live_rows(store: EmbeddingStore) -> int:
    return len(store) if store.live_N is None else int(np.count_nonzero(store.live_N))
