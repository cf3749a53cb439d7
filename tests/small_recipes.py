"""Recipes in a line for tests of prepare.py, the lines they read, and what was stored."""

import gzip
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np

from mcontriever.config import PrepareRecipe, parse_config

Recipe = dict[str, Any]


def recipe_of(*sources: Recipe, **changes: Any) -> PrepareRecipe:
    return parse_config(
        PrepareRecipe, {"name": "test", "licence": "none", "sources": list(sources), **changes}, "recipe.yaml"
    )


def jsonl(*paths: Path, **changes: Any) -> Recipe:
    return {
        "reader": "jsonl",
        "paths": [str(path) for path in paths],
        "languages": ["en", "sw", "ar"],
        "filters": {"min_tokens": 1},
        **changes,
    }


def write_lines(path: Path, documents: list[Any]) -> Path:
    text = "".join(json.dumps(document, ensure_ascii=False) + "\n" for document in documents)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def document(text: str, language: str = "en") -> dict[str, str]:
    return {"text": text, "language": language}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def stored_documents(folder: Path, language: str) -> list[list[int]]:
    """All documents of a language in order, by plain numpy."""
    manifest = json.loads((folder / "manifest.json").read_text())
    found = []
    for entry in manifest["shards"]:
        if entry["language"] == language:
            tokens, offsets = np.load(folder / entry["tokens_file"]), np.load(folder / entry["offsets_file"])
            found += [tokens[start:end].tolist() for start, end in itertools.pairwise(offsets)]
    return found
