"""A data set of the hub as source shards: it is divided into one part for each of its files, and streamed."""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from mcontriever.errors import DataError
from mcontriever.texts.hub_datasets import load_hub_dataset, read_dataset


def count_parts(path: str, configuration: str | None, split: str) -> int:
    return int(_stream(path, configuration, split).num_shards)


def read_part(
    path: str, configuration: str | None, split: str, part: tuple[int, int]
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The numbered rows of one part, (index, number of parts)."""
    index, parts = part
    stream = _stream(path, configuration, split)
    if stream.num_shards != parts:
        raise DataError(
            f"{stream.num_shards} parts now, {parts} when the run was planned",
            where=path,
            fix="run again with --restart",
        )
    yield from read_dataset(stream.shard(num_shards=parts, index=index), path)


@lru_cache(maxsize=4)
def _stream(path: str, configuration: str | None, split: str) -> Any:
    return load_hub_dataset(path, configuration, split, streaming=True)
