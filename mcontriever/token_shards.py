"""Read what `mcontriever prepare` wrote: memory-mapped token shards, addressed by (language, window).

    store = TokenStore.open("tokens", tokenizer_fingerprint=...)
    store.window_counts                                    {"ar": 120345, "sw": 20456}
    flat_token_ids, lengths_N = store.windows(language_N, window_N, phase_N)

A window never leaves its document. A document of L tokens has max(1, L // W) windows of W tokens; W is chosen when the
store is opened. The windows start at an offset of up to L % W tokens, drawn again for each phase, so that every token
is seen over the epochs. A document shorter than W is one window.

Shapes: N windows asked for, B documents in a block. Only every B-th document's window count is kept in memory.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mcontriever.chance import random_bits
from mcontriever.disk import sha256_of
from mcontriever.errors import DataError, StoreError
from mcontriever.npy_files import mapped
from mcontriever.ragged import Ragged
from mcontriever.token_manifest import (
    TokenManifest,
    TokenShard,
    check_token_files,
    check_token_ids,
    damaged,
    read_token_manifest,
)

Int64Array = npt.NDArray[np.int64]

DOCUMENTS_PER_BLOCK = 64
DOCUMENTS_AT_A_TIME = 1024
OPEN_SHARDS = 200  # two files each: below the usual limit of 1,024 open files


class TokenStore:
    """Token shards in several languages; language numbers are positions in `languages`."""

    def __init__(
        self, folder: Path, manifest: TokenManifest, languages: Sequence[str], *, window_tokens: int = 256
    ) -> None:
        shards_of = _shards_by_language(manifest)
        self.folder, self.manifest, self.languages = folder, manifest, list(languages)
        self._window_tokens = window_tokens
        self._shards = [shard for language in languages for shard in shards_of[language]]
        counted = [self._windows_in_blocks(shard) for shard in self._shards]
        self._block_ends = np.cumsum(np.concatenate(counted))
        self._shard_of_block = np.repeat(np.arange(len(counted)), [len(blocks) for blocks in counted])
        self._first_document = np.concatenate([np.arange(len(blocks)) for blocks in counted]) * DOCUMENTS_PER_BLOCK
        self._numbers = np.array([shard["shard"] for shard in self._shards], dtype=np.int64)
        in_shard = iter([int(blocks.sum()) for blocks in counted])
        of_language = [sum(next(in_shard) for _ in shards_of[language]) for language in languages]
        self.window_counts = dict(zip(self.languages, of_language, strict=True))
        self._language_ends = np.cumsum(of_language)

    @classmethod
    def open(
        cls,
        folder: str | Path,
        tokenizer_fingerprint: str | None = None,
        *,
        window_tokens: int = 256,
        languages: Sequence[str] | None = None,
    ) -> "TokenStore":
        """Check the manifest against the files and the tokenizer, and count the windows of each language."""
        folder = Path(folder)
        manifest = read_token_manifest(folder)
        _check_tokenizer(manifest, tokenizer_fingerprint, folder)
        shards_of = _shards_by_language(manifest)
        wanted = list(languages) if languages is not None else sorted(shards_of)
        missing = [language for language in wanted if language not in shards_of]
        if missing or not wanted:
            raise DataError(
                f"no windows in {', '.join(missing) or 'any language'}; the store has {', '.join(sorted(shards_of))}",
                where=folder,
                fix="choose among these languages, or prepare text in the others",
            )
        return cls(folder, manifest, wanted, window_tokens=window_tokens)

    def windows(
        self, language_N: Int64Array, window_N: Int64Array, phase_N: npt.NDArray[np.uint64]
    ) -> tuple[Int64Array, Int64Array]:
        """The tokens of N windows one after another, and how many each has."""
        shard_N, starts_N, lengths_N = self._find(language_N, window_N, phase_N)
        ends_N = np.cumsum(lengths_N)
        flat = np.empty(int(ends_N[-1]) if len(ends_N) else 0, dtype=np.int64)
        rows = zip(shard_N.tolist(), starts_N.tolist(), lengths_N.tolist(), ends_N.tolist(), strict=True)
        for shard, start, length, end in rows:
            flat[end - length : end] = self._open(shard)[0][start : start + length]
        check_token_ids(flat, self.manifest, self.folder)
        return flat, lengths_N

    def documents(self, language: str) -> Iterator[Ragged]:
        """All documents of a language, a block at a time."""
        for number, shard in enumerate(self._shards):
            if shard["language"] == language:
                tokens, offsets = self._open(number)
                for first in range(0, len(offsets) - 1, DOCUMENTS_AT_A_TIME):
                    bounds = offsets[first : first + DOCUMENTS_AT_A_TIME + 1]
                    ids = tokens[bounds[0] : bounds[-1]].astype(np.int64)
                    check_token_ids(ids, self.manifest, self.folder / shard["tokens_file"])
                    yield Ragged(ids, bounds - bounds[0])

    def verify(self) -> int:
        """Read every file once and compare its checksum with the manifest's; returns how many files there are."""
        files = {name: expected for shard in self._shards for name, expected in shard["sha256"].items()}
        for name, expected in files.items():
            found = sha256_of(self.folder / name)
            if found != expected:
                raise damaged(self.folder / name, f"checksum {found}, the manifest says {expected}")
        return len(files)

    def _find(
        self, language_N: Int64Array, window_N: Int64Array, phase_N: npt.NDArray[np.uint64]
    ) -> tuple[Int64Array, Int64Array, Int64Array]:
        """Shard, first token and length of each window."""
        ends_of_languages = np.concatenate([[0], self._language_ends])
        window_N = window_N + ends_of_languages[language_N]
        assert np.all(window_N < ends_of_languages[language_N + 1])
        block_N = np.searchsorted(self._block_ends, window_N, side="right")
        shard_N, first_N = self._shard_of_block[block_N], self._first_document[block_N]
        before_N = np.where(block_N > 0, self._block_ends[block_N - 1], 0)
        bounds_NB = np.empty((len(block_N), DOCUMENTS_PER_BLOCK + 1), dtype=np.int64)
        for row, (shard, first) in enumerate(zip(shard_N.tolist(), first_N.tolist(), strict=True)):
            bounds = self._open(shard)[1][first : first + DOCUMENTS_PER_BLOCK + 1]
            bounds_NB[row, : len(bounds)] = bounds
            bounds_NB[row, len(bounds) :] = bounds[-1]
        return shard_N, *self._place(bounds_NB, window_N - before_N, phase_N, shard_N, first_N)

    def _place(
        self,
        bounds_NB: Int64Array,
        window_N: Int64Array,
        phase_N: npt.NDArray[np.uint64],
        shard_N: Int64Array,
        first_document_N: Int64Array,
    ) -> tuple[Int64Array, Int64Array]:
        """First token and length of the n-th window in a block of documents with these bounds."""
        width, row_N = self._window_tokens, np.arange(len(window_N))
        lengths_NB = np.diff(bounds_NB, axis=1)
        counts_NB = _windows_of(lengths_NB, width)
        ends_NB = np.cumsum(counts_NB, axis=1)
        column_N = (ends_NB <= window_N[:, None]).sum(axis=1)
        in_document_N = window_N - ends_NB[row_N, column_N] + counts_NB[row_N, column_N]
        length_N = lengths_NB[row_N, column_N]
        slack_N = np.where(length_N >= width, length_N % width, 0)
        # All windows of a document share one offset in an epoch, so that no token is seen twice.
        drawn_N = random_bits(0, "offset in document", phase_N, self._numbers[shard_N], first_document_N + column_N)
        offset_N = (drawn_N % (slack_N + 1).astype(np.uint64)).astype(np.int64)
        return bounds_NB[row_N, column_N] + in_document_N * width + offset_N, np.minimum(length_N, width)

    def _windows_in_blocks(self, shard: TokenShard) -> Int64Array:
        lengths = np.diff(check_token_files(self.folder, shard))
        counts = _windows_of(lengths, self._window_tokens)
        return np.add.reduceat(counts, np.arange(0, len(counts), DOCUMENTS_PER_BLOCK))

    def _open(self, number: int) -> tuple[npt.NDArray[Any], Int64Array]:
        shard = self._shards[number]
        return _open_files(self.folder, shard["tokens_file"], shard["offsets_file"])


def count_windows(offsets: Int64Array, window_tokens: int) -> int:
    """How many windows the documents between these offsets have."""
    return int(_windows_of(np.diff(offsets), window_tokens).sum())


def _windows_of(lengths: Int64Array, window_tokens: int) -> Int64Array:
    """At least one for each document; a length of 0 means no document."""
    return np.where(lengths > 0, np.maximum(1, lengths // window_tokens), 0)


@lru_cache(maxsize=OPEN_SHARDS)
def _open_files(folder: Path, tokens: str, offsets: str) -> tuple[npt.NDArray[Any], Int64Array]:
    return mapped(folder / tokens), mapped(folder / offsets)


def _check_tokenizer(manifest: TokenManifest, fingerprint: str | None, folder: Path) -> None:
    stored = manifest["tokenizer"]
    if fingerprint is not None and fingerprint != stored["fingerprint"]:
        raise StoreError(
            f"the tokens were made by {stored['name']} ({stored['fingerprint'][:12]}), "
            f"the encoder has another tokenizer ({fingerprint[:12]})",
            where=folder,
            fix="train the encoder of these tokens, or prepare the text with --tokenizer of this encoder",
        )


def _shards_by_language(manifest: TokenManifest) -> dict[str, list[TokenShard]]:
    found: dict[str, list[TokenShard]] = {}
    for shard in manifest["shards"]:
        found.setdefault(shard["language"], []).append(shard)
    return found
