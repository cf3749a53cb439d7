"""What a search may be asked for, checked on construction."""

from dataclasses import dataclass
from typing import Literal

from mcontriever.errors import ConfigError
from mcontriever.retrieval.fusion import Fusion
from mcontriever.retrieval.lexical_index import Terms

Mode = Literal["dense", "bm25", "hybrid"]


@dataclass(frozen=True)
class SearchOptions:
    """`mode` None is dense, or bm25 for a store without vectors. `depth` documents are fused and re-ranked.

    `fusion` None is blend where the encoder's similarity is the cosine, and rrf where its scores have no fixed scale.
    `dense_weight` None is BLENDED_DENSE_WEIGHT for a blend, else half; the BM25 searches share the rest.
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
