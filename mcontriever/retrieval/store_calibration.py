"""What a store knows of its own scores: the calibration of its vectors by language, and what a shared word is worth.

Both are kept beside the store: made when it is embedded, or, for older stores, when they are first needed.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mcontriever.progress import log
from mcontriever.retrieval.calibration import Calibration
from mcontriever.retrieval.language_statistics import open_language_statistics
from mcontriever.retrieval.lexical_weight import LexicalWeight, measure_lexical_weight, sampled_rows
from mcontriever.retrieval.store import derived
from mcontriever.retrieval.store.embedding_store import EmbeddingStore

if TYPE_CHECKING:
    from mcontriever.encoder import Encoder

KIND = "lexical-weight"
GROWTH = 2  # a store that grew or shrank by more is measured again


def make_calibration(folder: Path, encoder: "Encoder") -> None:
    """When a store has been embedded, while the encoder is there."""
    store = EmbeddingStore.open(folder)
    open_calibration(store)
    if store.manifest.layout.keeps_text:
        open_lexical_weight(store, encoder)


def open_calibration(store: EmbeddingStore) -> Calibration:
    assert store.encoder is not None
    is_unit = store.encoder.spec["similarity"] == "cosine"
    return Calibration.of(open_language_statistics(store), is_unit=is_unit)


def holds_several_languages(store: EmbeddingStore) -> bool:
    """Of the rows that may be found; those of unknown language count as one more."""
    codes_N, names = store.languages
    live_codes_N = codes_N if store.live_N is None else codes_N[store.live_N]
    return len(names) > 1 and len(np.unique(live_codes_N)) > 1


def open_lexical_weight(store: EmbeddingStore, encoder: "Encoder") -> LexicalWeight:
    try:
        derived.ensure(store, KIND, lambda: _make(store, encoder), is_current=lambda: _kept(store) is not None)
    except PermissionError:  # a store that we may only read
        return _measured(store, encoder)
    kept = _kept(store)
    assert kept is not None
    return kept


def _kept(store: EmbeddingStore) -> LexicalWeight | None:
    facts, rows = derived.manifest_of(store, KIND), _live_rows(store)
    if facts is None or not len(rows) / GROWTH <= facts["measured_rows"] <= len(rows) * GROWTH:
        return None
    return LexicalWeight(facts["value"], facts["crops"])


def _make(store: EmbeddingStore, encoder: "Encoder") -> None:
    weight = _measured(store, encoder)
    facts = {"value": weight.value, "crops": weight.crops, "measured_rows": len(_live_rows(store))}
    derived.write(store, KIND, lambda folder: None, **facts)
    if weight.crops:
        log.info(f"a word shared counts {weight.value:.1f} deviations (by {weight.crops} crops of the store's texts)")


def _measured(store: EmbeddingStore, encoder: "Encoder") -> LexicalWeight:
    rows = sampled_rows(_live_rows(store))
    shown = store.rows_shown(rows, ["title", "text"])
    texts = [f"{row['title']} {row['text']}".strip() for row in shown]
    return measure_lexical_weight(texts, store.take(rows), store.languages[0][rows], open_calibration(store), encoder)


def _live_rows(store: EmbeddingStore) -> np.ndarray:
    return np.arange(len(store)) if store.live_N is None else np.flatnonzero(store.live_N)
