"""Pairs from two columns of a file: title and body, question and answer, a sentence and its translation.

    store = ColumnPairStore.build("cache", ["en-sw.jsonl.gz"], columns=("en", "sw"), tokenizer=..., max_tokens=254)
    source = ColumnPairSource(store, languages=(0, 1), seed=0)

The files are tokenized once into a folder of memory-mapped arrays with a manifest, which the same call finds again.
Building takes 4 bytes of memory for each token, and the second column's texts. With several ranks, one builds and the
others wait, then open. Each row is visited once an epoch, in an order that is a function of (seed, epoch).

Shapes: R rows of the store, B samples.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from mcontriever import chance
from mcontriever.disk import FolderLock, atomic_folder, write_json
from mcontriever.errors import ConfigError, DataError
from mcontriever.npy_files import mapped
from mcontriever.pretraining.dictionaries.dictionary_lines import ENGLISH
from mcontriever.pretraining.pairs import TokenPairs
from mcontriever.pretraining.parallel_lines import parallel_lines
from mcontriever.progress import log
from mcontriever.ragged import IntArray, Ragged, offsets_of
from mcontriever.records import read_record
from mcontriever.texts.locations import file_state
from mcontriever.texts.rows import read_rows
from mcontriever.tokens import SPECIALS_PER_ROW, tokenize_texts, tokenizer_fingerprint

MANIFEST = "manifest.json"
ROWS_PER_BATCH = 4096


@dataclass(frozen=True)
class _Facts:
    counts: dict[str, int]
    made_from: dict[str, Any]


class ColumnPairStore:
    """Two columns of token rows, memory-mapped.

    `text_R` is the first row with the same second text: questions about one passage belong to one text.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.counts: dict[str, int] = read_record(folder / MANIFEST, _Facts).counts
        self.text_R = mapped(folder / "texts.npy")
        self._sides = [
            Ragged(mapped(folder / f"tokens-{side}.npy"), mapped(folder / f"offsets-{side}.npy")) for side in (0, 1)
        ]

    def __len__(self) -> int:
        return len(self._sides[0])

    def rows(self, side: int, rows_B: IntArray) -> Ragged:
        rows = self._sides[side].take(rows_B)
        return rows.with_values(rows.values_T.astype(np.int64))

    @classmethod
    def build(
        cls, folder: str | Path, paths: Sequence[str], *, columns: tuple[str, str], tokenizer: Any, max_tokens: int
    ) -> "ColumnPairStore":
        """Tokenize the files if needed. Rows without one of the columns are dropped and counted, long texts are cut."""
        counts: Counter[str] = Counter()
        texts = _pairs_of_texts(paths, columns, counts)
        return cls._build(folder, paths, {"columns": list(columns)}, texts, counts, tokenizer, max_tokens)

    @classmethod
    def build_from_documents(
        cls,
        folder: str | Path,
        paths: Mapping[str, Sequence[str]],
        *,
        language: str,
        same_part: str,
        tokenizer: Any,
        max_tokens: int,
    ) -> "ColumnPairStore":
        """The same, from documents that exist in English and in `language` (see parallel_lines.py)."""
        counts: Counter[str] = Counter()
        texts = parallel_lines(paths, language=language, same_part=same_part, counts=counts)
        sources = [*paths[ENGLISH], *paths[language]]
        return cls._build(folder, sources, {"same_part": same_part}, texts, counts, tokenizer, max_tokens)

    @classmethod
    def _build(
        cls,
        folder: str | Path,
        paths: Sequence[str],
        settings: dict[str, Any],
        texts: Iterator[tuple[str, str]],
        counts: Counter[str],
        tokenizer: Any,
        max_tokens: int,
    ) -> "ColumnPairStore":
        wanted = {
            "format": "mcontriever-column-pairs-2",
            "sources": [file_state(path) for path in paths],
            **settings,
            "tokenizer": tokenizer_fingerprint(tokenizer),
            "max_tokens": max_tokens,
        }
        store = Path(folder) / "pairs"
        with FolderLock(folder):
            if not (store / MANIFEST).is_file() or read_record(store / MANIFEST, _Facts).made_from != wanted:
                _write(store, texts, counts, tokenizer, max_tokens, wanted)
        return cls(store)


class ColumnPairSource:
    """`languages` are the numbers of the columns' languages. The sides of `swap_probability` of samples are swapped."""

    def __init__(
        self, store: ColumnPairStore, *, languages: tuple[int, int], swap_probability: float = 0.0, seed: int
    ) -> None:
        if not 0 <= swap_probability <= 1:
            raise ConfigError(f"swap_probability {swap_probability} is not between 0 and 1")
        self.store = store
        self.languages = np.array(languages)
        self.swap_probability = swap_probability
        self.seed = seed

    def draw(self, samples: IntArray) -> TokenPairs:
        epoch_B, place_B = np.divmod(samples, len(self.store))
        row_B = chance.permuted(self.seed, "column pairs", len(self.store), place_B, epoch_B)
        swap_B = chance.uniform(self.seed, "column swap", samples) < self.swap_probability
        sides = Ragged.join([self.store.rows(0, row_B), self.store.rows(1, row_B)])
        first_B = np.arange(len(samples)) + len(samples) * swap_B
        second_B = np.arange(len(samples)) + len(samples) * ~swap_B
        language_B = np.where(swap_B, self.languages[0], self.languages[1])
        return TokenPairs(sides.take(first_B), sides.take(second_B), language_B, np.asarray(self.store.text_R[row_B]))


def _write(
    store: Path,
    texts: Iterator[tuple[str, str]],
    counts: Counter[str],
    tokenizer: Any,
    max_tokens: int,
    made_from: dict[str, Any],
) -> None:
    tokens: list[list[np.ndarray]] = [[], []]
    lengths: list[list[np.ndarray]] = [[], []]
    first_rows: dict[str, int] = {}
    text_R: list[int] = []
    while batch := list(islice(texts, ROWS_PER_BATCH)):
        text_R += [first_rows.setdefault(second, len(text_R) + row) for row, (_, second) in enumerate(batch)]
        for side in (0, 1):
            texts_of_side = [pair[side] for pair in batch]
            rows = Ragged.of_lengths(*tokenize_texts(tokenizer, texts_of_side, max_tokens + SPECIALS_PER_ROW))
            kept = np.minimum(rows.lengths_N, max_tokens)
            counts["texts cut"] += int((kept < rows.lengths_N).sum())
            tokens[side].append(rows.cut(np.zeros_like(kept), kept).values_T.astype(np.uint32))
            lengths[side].append(kept)
    if not counts["rows kept"]:
        raise DataError(
            f"no pair of texts by {made_from.get('columns') or made_from['same_part']}; found {dict(counts)}",
            where=", ".join(source[0] for source in made_from["sources"]),
            fix="name the columns, or what ids have in common, as the files have them",
        )
    with atomic_folder(store) as temporary:
        for side in (0, 1):
            np.save(temporary / f"tokens-{side}.npy", np.concatenate(tokens[side]))
            np.save(temporary / f"offsets-{side}.npy", offsets_of(np.concatenate(lengths[side])))
        np.save(temporary / "texts.npy", np.array(text_R, dtype=np.int64))
        write_json(temporary / MANIFEST, {"made_from": made_from, "counts": dict(counts)})
    log.info("%s: %s", store, ", ".join(f"{count:,} {reason}" for reason, count in counts.items()))


def _pairs_of_texts(paths: Sequence[str], columns: tuple[str, str], counts: Counter[str]) -> Iterator[tuple[str, str]]:
    for row in (row for path in paths for row in read_rows(path)):
        fields = row.fields()
        texts: list[Any] = [fields.get(column) for column in columns]
        if any(column not in fields for column in columns):
            counts["rows without one of the columns"] += 1
        elif not all(isinstance(text, str) and text.strip() for text in texts):
            counts["rows with an empty column"] += 1
        else:
            counts["rows kept"] += 1
            yield texts[0], texts[1]
