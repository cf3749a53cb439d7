"""What stands behind `--model`, parsed and nothing more.

mini, nano                the models that come with the package (a folder of that name is ./nano)
NAME                      a folder (exported by us or any sentence-transformers layout) or a hub name
bm25                      BM25 as bm25s comes, without stop words: the baseline that others can repeat
bm25:words                BM25 over the words that `mcontriever search` takes (Chinese in pairs, no Arabic points...)
bm25:subwords=TOKENIZER   BM25 over a tokenizer's pieces
hybrid:A,B                the hits of two or more models fused by reciprocal rank
blend:A,B                 their scores as they are: cosines, and BM25's as shares of what a query could reach
X+rerank:CROSS_ENCODER    the best hits of any of these, re-ranked by a cross-encoder
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mcontriever.errors import ConfigError

RERANK, SUBWORDS = "+rerank:", "bm25:subwords="
FUSED = ("hybrid", "blend")


@dataclass(frozen=True)
class ModelSpec:
    """`value` is the name of the encoder, of the cross-encoder, or of the tokenizer that cuts subwords."""

    kind: Literal["encoder", "bm25", "bm25:words", "bm25:subwords", "hybrid", "blend", "rerank"]
    value: str = ""
    parts: tuple["ModelSpec", ...] = ()

    @property
    def names(self) -> list[str]:
        """The folders and hub names that it takes."""
        own = [self.value] if self.value else []
        return own + [name for part in self.parts for name in part.names]

    def label(self, short: dict[str, str]) -> str:
        """How tables call it, with the paths made short."""
        value = short.get(self.value, self.value)
        parts = [part.label(short) for part in self.parts]
        if self.kind in ("bm25", "bm25:words"):
            return self.kind
        if self.kind == "bm25:subwords":
            return f"{SUBWORDS}{value}"
        if self.kind in FUSED:
            return f"{self.kind}:" + ",".join(parts)
        return f"{parts[0]}{RERANK}{value}" if self.kind == "rerank" else value


def parse_model(text: str) -> ModelSpec:
    first, rerank, cross_encoder = text.rpartition(RERANK)
    if rerank:
        if not first or not cross_encoder:
            raise _unreadable(text, "X+rerank:CROSS_ENCODER, for example bm25+rerank:BAAI/bge-reranker-v2-m3")
        return ModelSpec("rerank", cross_encoder, (parse_model(first),))
    kind, colon, names = text.partition(":")
    if colon and kind in FUSED:
        parts = names.split(",")
        if len(parts) < 2 or not all(parts):
            raise _unreadable(text, f"{kind}:A,B, for example {kind}:bm25:words,nano")
        return ModelSpec("hybrid" if kind == "hybrid" else "blend", parts=tuple(parse_model(name) for name in parts))
    if text.startswith(SUBWORDS) and text != SUBWORDS:
        return ModelSpec("bm25:subwords", text.removeprefix(SUBWORDS))
    if text == "bm25":
        return ModelSpec("bm25")
    if text == "bm25:words":
        return ModelSpec("bm25:words")
    if not text or text.startswith("bm25:"):
        forms = "bm25, bm25:words, bm25:subwords=TOKENIZER, hybrid:A,B, blend:A,B, X+rerank:CROSS_ENCODER, or a model"
        raise _unreadable(text, forms)
    return ModelSpec("encoder", text)


def parse_models(texts: Sequence[str]) -> dict[str, ModelSpec]:
    """label -> spec, in order. Folders are called by the end of their path, as much of it as tells them apart."""
    specs = [parse_model(text) for text in texts]
    short = _short_names([name for spec in specs for name in spec.names])
    labelled: dict[str, ModelSpec] = {}
    for spec in specs:
        label = spec.label(short)
        if label in labelled:
            raise ConfigError(f"--model {label} is given twice", fix="name each model once")
        labelled[label] = spec
    return labelled


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
