"""The texts of a teacher's store as the student's tokens, made once for a run and memory-mapped.

    build_text_rows(folder, texts, made_from={...}, tokenizer=..., max_tokens=128)
    open_text_rows(folder).take(np.array([3, 17]))

Row i belongs to row i of the store, so that a text always has its own vector. Rows of the store are not
read at random, because a store keeps its texts in compressed groups. Building holds 4 bytes for each token in memory.

Shapes: N rows of the store.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mcontriever.disk import atomic_folder, write_json
from mcontriever.errors import StoreError
from mcontriever.npy_files import mapped
from mcontriever.progress import log
from mcontriever.ragged import Ragged, offsets_of
from mcontriever.records import read_record
from mcontriever.tokens import SPECIALS_PER_ROW, tokenize_texts

MANIFEST = "manifest.json"


def build_text_rows(
    folder: Path,
    texts: Iterable[Sequence[str]],
    *,
    made_from: Mapping[str, Any],
    tokenizer: Any,
    max_tokens: int,
) -> None:
    """Tokenize `texts` (some at a time), unless an earlier start of the run did.

    A row keeps one token more than `max_tokens` where it was longer, so that packing counts the cut.
    """
    wanted = {**made_from, "max_tokens": max_tokens}
    if not (folder / MANIFEST).is_file():
        _write(folder, texts, wanted, tokenizer, max_tokens)
    refuse_another(folder, wanted)


def open_text_rows(folder: Path) -> Ragged:
    return Ragged(mapped(folder / "tokens.npy"), mapped(folder / "offsets.npy"))


def refuse_another(folder: Path, wanted: Mapping[str, Any]) -> None:
    """A run keeps its teacher: another store in the same place would change what it learns halfway."""
    found = read_record(folder / MANIFEST, dict[str, Any])
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
        np.save(temporary / "offsets.npy", offsets_of(lengths_N))
        write_json(temporary / MANIFEST, {**made_from, "rows": len(lengths_N), "cut": cut})
    log.info(f"{len(lengths_N):,} of the teacher's texts tokenized, {cut:,} of them longer than {max_tokens} tokens")
