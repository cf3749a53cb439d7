"""One encoder for all stores and threads of a server: one call at a time, and recent queries are remembered.

A page asks the same query again with another filter, and requests that wait together are embedded in one call first.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from mcontriever.encoder import Encoder

MOST_REMEMBERED = 4096


class SharedEncoder:
    """As the `Encoder` that it is made of."""

    def __init__(self, encoder: "Encoder") -> None:
        self._encoder = encoder
        self._lock = threading.Lock()  # fast tokenizers refuse two callers at once
        self._remembered: OrderedDict[str, np.ndarray] = OrderedDict()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)

    def embed_queries(self, texts: Sequence[str]) -> np.ndarray:
        with self._lock:
            known = {text: self._remembered[text] for text in texts if text in self._remembered}
            new = list(dict.fromkeys(text for text in texts if text not in known))
            if new:
                known.update(zip(new, self._encoder.embed_queries(new), strict=True))
            for text in known:
                self._remembered[text] = known[text]
                self._remembered.move_to_end(text)
            while len(self._remembered) > MOST_REMEMBERED:
                self._remembered.popitem(last=False)
        found = [known[text] for text in texts]
        return np.stack(found) if found else np.empty((0, self._encoder.dimension), dtype=np.float32)

    def embed_documents(self, texts: Sequence[str], titles: Sequence[str] | None = None) -> np.ndarray:
        with self._lock:
            return self._encoder.embed_documents(texts, titles)

    def count_tokens(self, texts: Sequence[str]) -> int:
        from mcontriever.tokens import tokenize_texts

        with self._lock:
            return int(tokenize_texts(self._encoder.tokenizer, texts, self._encoder.max_length)[1].sum())
