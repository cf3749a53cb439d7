"""Which live rows are in the languages asked for: "zh" includes zh-Hans and zh_TW; an unknown code is an error."""

import difflib
from collections.abc import Sequence

import numpy as np

from mcontriever.errors import DataError
from mcontriever.retrieval.store.embedding_store import EmbeddingStore


def rows_in_languages(store: EmbeddingStore, wanted: Sequence[str]) -> np.ndarray:
    codes_N, names = store.languages
    chosen = [number for number, name in enumerate(names) if any(is_within(name, code) for code in wanted)]
    for code in wanted:
        if not any(is_within(name, code) for name in names):
            raise DataError(
                f"no document is in the language {code!r}; the store's languages are "
                f"{', '.join(name or '(not named)' for name in names) or '(none)'}",
                where=store.folder,
                fix=_advice(code, names),
            )
    allowed_N = np.isin(codes_N, chosen)
    return allowed_N if store.live_N is None else allowed_N & store.live_N


def is_within(language: str, code: str) -> bool:
    """Whether a language is the one asked for, or a kind of it."""
    language, code = language.lower().replace("_", "-"), code.lower().replace("_", "-")
    return language == code or language.startswith(f"{code}-")


def _advice(code: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(code, names, n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else "choose among them, or omit --language"
