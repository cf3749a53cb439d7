"""The texts of a teacher's store as the student's tokens, made once for a run and memory-mapped.

    rows = TextRows.build(folder, texts, made_from={...}, tokenizer=..., max_tokens=128)
    rows.take(np.array([3, 17]))

Row i belongs to row i of the store, so that a text and its vector cannot get out of step. Rows of the store are not
read at random, because a store keeps its texts in compressed groups. Building holds 4 bytes for each token in memory.

Shapes: N rows of the store, R rows asked for, T tokens.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mcontriever.disk import atomic_folder, read_json, write_json
from mcontriever.errors import StoreError
from mcontriever.progress import log
from mcontriever.ragged import IntArray, Ragged, spans
from mcontriever.tokens import SPECIALS_PER_ROW, cumulative, tokenize_texts

MANIFEST = "manifest.json"


class TextRows:
    """Each row keeps one token more than `max_tokens` where it was longer, so that packing counts the cut."""

    def __init__(self, folder: Path) -> None:
        self._tokens = np.load(folder / "tokens.npy", mmap_mode="r")
        self._offsets = np.load(folder / "offsets.npy", mmap_mode="r")

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @property
    def lengths_N(self) -> IntArray:
        return np.diff(self._offsets)

    def take(self, rows_R: IntArray) -> Ragged:
        first_R = self._offsets[rows_R]
        lengths_R = self._offsets[rows_R + 1] - first_R
        return Ragged(self._tokens[spans(first_R, lengths_R)].astype(np.int64), lengths_R)

    @classmethod
    def build(
        cls,
        folder: Path,
        texts: Iterable[Sequence[str]],
        *,
        made_from: Mapping[str, Any],
        tokenizer: Any,
        max_tokens: int,
    ) -> "TextRows":
        """Tokenize `texts` (some at a time), unless an earlier start of the run did."""
        wanted = {**made_from, "max_tokens": max_tokens}
        if not (folder / MANIFEST).is_file():
            _write(folder, texts, wanted, tokenizer, max_tokens)
        refuse_another(folder, wanted)
        return cls(folder)


def refuse_another(folder: Path, wanted: Mapping[str, Any]) -> None:
    """A run keeps its teacher: another store in the same place would change what it learns halfway."""
    found = read_json(folder / MANIFEST)
    changed = sorted(key for key in wanted if found.get(key) != wanted[key])
    if changed:
        raise StoreError(
            f"the run began with another teacher's store: {', '.join(changed)} changed since then",
            where=wanted.get("store", folder),
            fix=f"restore the store, or begin a new run in another run.output (this one's is {folder.parents[1]})",
        )


def _write(
    folder: Path, texts: Iterable[Sequence[str]], made_from: Mapping[str, Any], tokenizer: Any, max_tokens: int
) -> None:
    tokens, lengths = [np.zeros(0, np.uint32)], [np.zeros(0, np.int64)]
    for some in texts:
        flat_ids, lengths_N = tokenize_texts(tokenizer, some, max_tokens + SPECIALS_PER_ROW)
        tokens.append(flat_ids.astype(np.uint32))
        lengths.append(lengths_N)
    lengths_N = np.concatenate(lengths)
    cut = int((lengths_N > max_tokens).sum())
    with atomic_folder(folder) as temporary:
        np.save(temporary / "tokens.npy", np.concatenate(tokens))
        np.save(temporary / "offsets.npy", cumulative(lengths_N))
        write_json(temporary / MANIFEST, {**made_from, "rows": len(lengths_N), "cut": cut})
    log.info(f"{len(lengths_N):,} of the teacher's texts tokenized, {cut:,} of them longer than {max_tokens} tokens")
