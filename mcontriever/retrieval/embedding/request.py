"""What `mcontriever embed` was asked to do."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mcontriever.retrieval.embedding.corpus import Corpus
from mcontriever.retrieval.store.store_manifest import VectorType

Mode = Literal["new", "append", "replace"]
BM25 = "bm25"  # the name of no model: a store of texts alone


@dataclass(frozen=True)
class EmbeddingRequest:
    """What to embed, how, and where to. None means: as the store has it, else the default."""

    corpus: str
    output: Path
    model: str | None = None
    mode: Mode = "new"
    fields: dict[str, str] | None = None
    language: str = ""
    subset: str | None = None
    split: str = "train"
    dtype: VectorType | None = None
    keeps_text: bool | None = None
    passage_words: int | None = None
    passage_overlap: int | None = None
    shard_documents: int | None = None
    device: str = "auto"
    precision: str = "auto"
    restart: bool = False
    as_queries: bool = False
    detects_languages: bool = True

    def open_corpus(self, path: str) -> Corpus:
        """`path` is the request's own corpus, or what was read from standard input."""
        return Corpus.open(path, fields=self.fields, language=self.language, subset=self.subset, split=self.split)
