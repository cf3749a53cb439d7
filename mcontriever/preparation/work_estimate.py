"""How long a preparation will take and how much it will write, estimated from a sample of its sources."""

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mcontriever.amounts import shown_duration, shown_size
from mcontriever.preparation.readers import read_shard
from mcontriever.preparation.source_document import SourceDocument
from mcontriever.preparation.source_plan import Job
from mcontriever.preparation.text_to_tokens import tokenize
from mcontriever.texts.locations import is_remote

SAMPLED_SHARDS = 8
SAMPLED_CHARACTERS = 20_000
SAMPLE_SECONDS = 1.0
# Bytes of text in a byte of such a file, typically.
EXPANSION = {".gz": 3.0, ".xz": 4.5, ".zst": 3.5, ".parquet": 2.0}


@dataclass(frozen=True)
class Estimate:
    text_bytes: int
    tokens: int
    disk_bytes: int
    seconds: float
    unknown_shards: int

    def __str__(self) -> str:
        unknown = f"; {self.unknown_shards} shards of unknown size are not counted" if self.unknown_shards else ""
        return (
            f"estimate: {shown_size(self.text_bytes)} of text, {self.tokens / 1e6:,.1f} M tokens, "
            f"{shown_size(self.disk_bytes)} of disk, about {shown_duration(self.seconds)}{unknown}"
        )


def estimate(jobs: Sequence[Job], tokenizer_file: Path, token_bytes: int, workers: int) -> Estimate | None:
    """None if nothing could be sampled. Token shards count twice, because duplicates are dropped in a copy."""
    known = [job for job in jobs if job.shard.source_bytes]
    text_bytes = sum((job.shard.source_bytes or 0) * _expansion(job.shard.path) for job in known)
    local = [job for job in known if not is_remote(job.shard.path)]
    sampled_bytes, sampled_tokens, seconds = _sample(local, tokenizer_file)
    if not sampled_bytes:
        return None
    tokens = text_bytes * sampled_tokens / sampled_bytes
    return Estimate(
        text_bytes=int(text_bytes),
        tokens=int(tokens),
        disk_bytes=int(tokens * token_bytes * 2),
        seconds=text_bytes / sampled_bytes * seconds / min(workers, max(1, len(jobs))),
        unknown_shards=len(jobs) - len(known),
    )


def _sample(jobs: Sequence[Job], tokenizer_file: Path) -> tuple[int, int, float]:
    """Bytes and tokens of the first documents of some shards, and the seconds that reading and tokenizing took."""
    tokenize(["a tokenizer's first call is slow"], tokenizer_file)
    step = max(1, len(jobs) // SAMPLED_SHARDS)
    text_bytes = tokens = 0
    started = time.perf_counter()
    for job in jobs[::step][:SAMPLED_SHARDS]:
        documents = (item.text for item in read_shard(job.shard) if isinstance(item, SourceDocument))
        texts = [text[:SAMPLED_CHARACTERS] for text in itertools.islice(documents, 8)]
        tokens += sum(len(ids) for ids in tokenize(texts, tokenizer_file)) if texts else 0
        text_bytes += sum(len(text.encode()) for text in texts)
        if time.perf_counter() - started > SAMPLE_SECONDS:
            break
    return text_bytes, tokens, time.perf_counter() - started


def _expansion(path: str) -> float:
    return next((factor for suffix, factor in EXPANSION.items() if path.endswith(suffix)), 1.0)
