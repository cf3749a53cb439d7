"""What a store knows of its own scores: the calibration of its vectors by language.

Kept beside the store: made when it is embedded, or, for older stores, when it is first needed.
"""

import numpy as np

from mcontriever.retrieval.calibration import Calibration
from mcontriever.retrieval.language_statistics import open_language_statistics
from mcontriever.retrieval.store.embedding_store import EmbeddingStore


def open_calibration(store: EmbeddingStore) -> Calibration:
    assert store.encoder is not None
    is_unit = store.encoder.spec["similarity"] == "cosine"
    return Calibration.of(open_language_statistics(store), is_unit=is_unit)


def holds_several_languages(store: EmbeddingStore) -> bool:
    """Of the rows that may be found; those of unknown language count as one more."""
    codes_N, names = store.text_languages
    live_codes_N = codes_N if store.live_N is None else codes_N[store.live_N]
    return len(names) > 1 and len(np.unique(live_codes_N)) > 1
