"""What `--model` means: parsed here, loaded elsewhere.

mini, nano                the models that come with the package (a folder with such a name is ./nano)
NAME                      a folder (exported by us, or any sentence-transformers layout) or a hub name
bm25                      BM25 by bm25s with its default settings, without stop words: a baseline that anyone can repeat
bm25:words                BM25 over the words of `mcontriever search` (Chinese in pairs, no Arabic points...)
bm25:subwords=TOKENIZER   BM25 over a tokenizer's pieces
dpr:QUESTIONS,PASSAGES    two encoders that share a vector space: DPR's pair of checkpoints, or any two folders
sparta:NAME               a plain backbone as SPARTA reads it: sparse weights of the vocabulary's pieces
splade:NAME               a masked language model as SPLADE reads it
hybrid:A,B                the hits of two or more of these, fused by reciprocal rank
blend:A,B                 a sum of their scores: cosines, and BM25 scores divided by the query's maximum
calibrated:A,B            an encoder, alone or with BM25 (words, subwords), as `mcontriever search` merges languages
X+rerank:CROSS_ENCODER    the best hits of any of these, re-ranked by a cross-encoder
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mcontriever.errors import ConfigError

RERANK, SUBWORDS = "+rerank:", "bm25:subwords="
DPR = "dpr:"
Kind = Literal["encoder", "two encoders", "sparta", "splade", "bm25", "bm25:words", "bm25:subwords"]
SPARSE: dict[str, Kind] = {"sparta:": "sparta", "splade:": "splade"}
Fusion = Literal["", "hybrid", "blend", "calibrated"]
PLAIN: dict[str, Kind] = {"bm25": "bm25", "bm25:words": "bm25:words"}
FUSIONS: dict[str, Fusion] = {"hybrid": "hybrid", "blend": "blend", "calibrated": "calibrated"}


@dataclass(frozen=True)
class SearchSpec:
    """One search. `name` is the encoder's, or the tokenizer's for subwords; `passages` is the second encoder's."""

    kind: Kind
    name: str = ""
    passages: str = ""

    @property
    def is_lexical(self) -> bool:
        return self.kind.startswith("bm25")

    def label(self, short: dict[str, str]) -> str:
        name = short.get(self.name, self.name)
        if self.kind == "two encoders":
            return f"{DPR}{name},{short.get(self.passages, self.passages)}"
        if self.kind in SPARSE.values():
            return f"{self.kind}:{name}"
        return f"{SUBWORDS}{name}" if self.kind == "bm25:subwords" else name or self.kind


@dataclass(frozen=True)
class ModelSpec:
    """One or more searches, how they are fused, and the cross-encoder that re-ranks the result ("": none)."""

    parts: tuple[SearchSpec, ...]
    fusion: Fusion = ""
    reranker: str = ""

    @property
    def is_one_encoder(self) -> bool:
        return len(self.parts) == 1 and self.parts[0].kind == "encoder" and not self.reranker

    @property
    def is_searchable_together(self) -> bool:
        """One encoder, and kinds of terms that a store has an index of."""
        kinds = [part.kind for part in self.parts]
        of_a_store = {"encoder", "bm25:words", "bm25:subwords"}
        return kinds.count("encoder") == 1 and of_a_store.issuperset(kinds) and len(set(kinds)) == len(kinds)

    @property
    def names(self) -> list[str]:
        """Its folders and hub names."""
        names = [name for part in self.parts for name in (part.name, part.passages)]
        return [name for name in (*names, self.reranker) if name]

    def label(self, short: dict[str, str]) -> str:
        """Its name in tables, with short paths."""
        label = ",".join(part.label(short) for part in self.parts)
        label = f"{self.fusion}:{label}" if self.fusion else label
        return f"{label}{RERANK}{short.get(self.reranker, self.reranker)}" if self.reranker else label


def parse_model(text: str) -> ModelSpec:
    first, rerank, cross_encoder = text.partition(RERANK)
    if rerank and not (first and cross_encoder):
        raise _unreadable(text, "X+rerank:CROSS_ENCODER, for example bm25+rerank:BAAI/bge-reranker-v2-m3")
    if first.startswith(DPR):
        questions, _, passages = first.removeprefix(DPR).partition(",")
        if not questions or not passages or "," in passages:
            raise _unreadable(text, f"{DPR}QUESTIONS,PASSAGES, the two encoders' folders or hub names")
        return ModelSpec((SearchSpec("two encoders", questions, passages),), reranker=cross_encoder)
    kind, colon, names = first.partition(":")
    if colon and kind in FUSIONS:
        parts = names.split(",")
        if len(parts) < 2 - (kind == "calibrated") or not all(parts):
            raise _unreadable(text, f"{kind}:A,B, for example {kind}:bm25:words,nano")
        spec = ModelSpec(tuple(map(_parse_search, parts)), FUSIONS[kind], cross_encoder)
        if kind == "calibrated" and not spec.is_searchable_together:
            raise _unreadable(text, "calibrated:ENCODER, or with bm25:words or bm25:subwords=ENCODER, each once")
        return spec
    return ModelSpec((_parse_search(first),), reranker=cross_encoder)


def is_pair(text: str | Path) -> bool:
    return str(text).startswith(DPR)


def parse_models(texts: Sequence[str]) -> dict[str, ModelSpec]:
    """label -> spec, in order. A folder's label is the end of its path, as long as needed to be unique."""
    specs = [parse_model(text) for text in texts]
    short = _short_names([name for spec in specs for name in spec.names])
    labelled: dict[str, ModelSpec] = {}
    for spec in specs:
        label = spec.label(short)
        if label in labelled:
            raise ConfigError(f"duplicate --model {label}", fix="give each model once")
        labelled[label] = spec
    return labelled


def _parse_search(text: str) -> SearchSpec:
    if text.startswith(SUBWORDS) and text != SUBWORDS:
        return SearchSpec("bm25:subwords", text.removeprefix(SUBWORDS))
    for form, kind in SPARSE.items():
        if text.startswith(form) and text != form:
            return SearchSpec(kind, text.removeprefix(form))
    if text in PLAIN:
        return SearchSpec(PLAIN[text])
    if not text or text.startswith("bm25:") or text in SPARSE:
        fused = "hybrid:A,B, blend:A,B, calibrated:A,B, X+rerank:CROSS_ENCODER"
        raise _unreadable(
            text, f"bm25, bm25:words, bm25:subwords=TOKENIZER, sparta:NAME, splade:NAME, {fused}, or a model"
        )
    return SearchSpec("encoder", text)


def _short_names(names: Sequence[str]) -> dict[str, str]:
    paths = {name: Path(name).resolve().parts for name in dict.fromkeys(names) if Path(name).is_dir()}
    short = {}
    for name, parts in paths.items():
        others = [other for key, other in paths.items() if key != name]
        length = 1
        while length < len(parts) and any(other[-length:] == parts[-length:] for other in others):
            length += 1
        short[name] = "/".join(parts[-length:])
    return short


def _unreadable(text: str, form: str) -> ConfigError:
    return ConfigError(f"--model {text!r} cannot be read", fix=f"write it as {form}")
