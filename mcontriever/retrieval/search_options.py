"""What a search may be asked for, checked on construction."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from mcontriever.disk import is_plain_name
from mcontriever.errors import ConfigError
from mcontriever.retrieval.fusion import Fusion
from mcontriever.retrieval.lexical_index import Terms

Mode = Literal["dense", "bm25", "hybrid"]
Merge = Literal["calibrated", "raw"]
PREFER = {"any": 0.0, "own": 6.0}


@dataclass(frozen=True)
class SearchOptions:
    """`mode` None is dense, or bm25 for a store without vectors. `depth` documents are fused and re-ranked.

    `fusion` None is blend where the encoder's similarity is the cosine, and rrf where its scores have no fixed scale.
    `dense_weight` None is BLENDED_DENSE_WEIGHT for a blend, else half; the BM25 searches share the rest.
    `merge` None is calibrated for a hybrid search and for a store of several languages, unless `fusion`,
    `dense_weight` or `center_languages` ask for another way. `prefer` is added to the scores of documents in the
    query's language, in nats of evidence. Hits of less than `min_confidence` are not returned.
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
    merge: Merge | None = None
    prefer: float = 0.0
    min_confidence: float = 0.0

    def __post_init__(self) -> None:
        for name, known in (("mode", Mode), ("fusion", Fusion), ("terms", Terms)):
            value = getattr(self, name)
            if value not in get_args(known) and not (value is None and name != "terms"):
                raise ConfigError(f"{name} is {value!r}", fix=f"give one of {', '.join(get_args(known))}")
        if not is_plain_name(self.index):
            raise ConfigError(f"index is {self.index!r}", fix="give auto, exact or a kind that mcontriever index made")
        if self.k < 1 or self.depth < 1:
            raise ConfigError(f"k {self.k} and depth {self.depth} must be 1 or more", fix="give whole numbers from 1")
        if self.dense_weight is not None and not 0 <= self.dense_weight <= 1:
            raise ConfigError(f"a dense weight of {self.dense_weight}", fix="give a number from 0 to 1")
        if not 0 <= self.min_confidence <= 1:
            raise ConfigError(f"a least confidence of {self.min_confidence}", fix="give a number from 0 to 1")
        if not math.isfinite(self.prefer):
            raise ConfigError(f"a preference of {self.prefer}", fix="give own, any or a number (nats of evidence)")
        if self.merge == "calibrated" and self.asks_for_raw_scores:
            raise ConfigError(
                "a calibrated merge has its own weights: it excludes fusion, a dense weight and --center-languages",
                fix="omit them, or use --merge raw",
            )

    @property
    def asks_for_raw_scores(self) -> bool:
        return self.fusion is not None or self.dense_weight is not None or self.center_languages


def preference(text: str) -> float:
    """own, any, or a number."""
    if text in PREFER:
        return PREFER[text]
    try:
        return float(text)
    except ValueError as error:
        raise ConfigError(f"--prefer {text}", fix="give own, any or a number (nats of evidence)") from error
