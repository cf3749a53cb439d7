"""Is a store whole? Sizes, checksums and row counts of all its files, and of a run under way."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from mcontriever.disk import sha256_of
from mcontriever.npy_files import mapped
from mcontriever.progress import track
from mcontriever.retrieval.store.store_manifest import FileEntry, ShardEntry, find_manifest, read_manifest, read_plan
from mcontriever.retrieval.store.store_runs import done_shards

CHECKING_THREADS = 4


@dataclass(frozen=True)
class Damage:
    """A file that is not what the manifest says; `shard` is None for the list of deleted rows."""

    name: str
    what: str
    shard: ShardEntry | None


def find_damage(folder: Path) -> tuple[list[Damage], int]:
    """All damage, and how many files were checked: of the store, and of a run under way."""
    plan = read_plan(folder)
    manifest = find_manifest(folder) if plan else read_manifest(folder)
    shards = [*(manifest.shards if manifest else []), *(done_shards(folder, plan) if plan else [])]
    expected: list[tuple[str, FileEntry, ShardEntry | None]] = [
        (name, file, shard) for shard in shards for name, file in shard.files.items()
    ]
    if manifest and manifest.deleted:
        expected.append((manifest.deleted.name, manifest.deleted, None))
    damage = []
    with (
        track(sum(file.bytes for _, file, _ in expected), "checking", "bytes") as progress,
        ThreadPoolExecutor(CHECKING_THREADS) as pool,
    ):
        checks = [pool.submit(_what_is_wrong, folder / name, file, shard) for name, file, shard in expected]
        for (name, file, shard), check in zip(expected, checks, strict=True):
            if what := check.result():
                damage.append(Damage(name, what, shard))
            progress.advance(file.bytes)
    return damage, len(expected)


def _what_is_wrong(path: Path, expected: FileEntry, shard: ShardEntry | None) -> str | None:
    if not path.exists():
        return "missing"
    size = path.stat().st_size
    if size != expected.bytes:
        return f"{size:,} bytes, the manifest says {expected.bytes:,}"
    if sha256_of(path) != expected.sha256:
        return "its content is not what was written (checksum)"
    rows = _rows_of(path)
    if shard is not None and rows != shard.rows:
        return f"{rows:,} rows, the manifest says {shard.rows:,}"
    return None


def _rows_of(path: Path) -> int:
    if path.suffix == ".npy":
        return len(mapped(path))
    from pyarrow import parquet

    return int(parquet.read_metadata(path).num_rows)
