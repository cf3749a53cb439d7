"""A data set of the Hugging Face hub, or a local folder in the hub's layout, streamed part by part."""

import os
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from mcontriever.errors import DataError, HubError
from mcontriever.streams import DamagedFileError, require_host

OFFLINE_WAY = "download the data set on a connected machine and give its folder as the path"


def count_parts(path: str, configuration: str | None, split: str) -> int:
    """Into how many parts the data set divides: one for each of its files."""
    return int(_stream(path, configuration, split).num_shards)


def open_part(path: str, configuration: str | None, split: str, part: tuple[int, int]) -> Iterator[Mapping[str, Any]]:
    """The rows of one part. A damaged file is a DamagedFileError; a host that is gone is a HubError."""
    index, parts = part
    stream = _stream(path, configuration, split)
    if stream.num_shards != parts:
        raise DataError(
            f"{stream.num_shards} parts now, {parts} when the run was planned",
            where=path,
            fix="run again with --restart",
        )
    rows = 0
    try:
        for row in stream.shard(num_shards=parts, index=index):
            rows += 1
            yield row
    except Exception as error:  # datasets lets through whatever its many readers raise
        if not Path(path).exists():
            raise HubError(f"reading broke off: {error}", where=path, fix="run the same command again") from error
        what = f"cannot be read on: {' '.join(str(error).split())[:200]}"
        damage = DamagedFileError("corrupt", what, path)
        damage.line = rows + 1
        raise damage from error


@lru_cache(maxsize=4)
def _stream(path: str, configuration: str | None, split: str) -> Any:
    if not Path(path).exists():
        require_host(os.environ.get("HF_ENDPOINT", "https://huggingface.co"), f"{path}: {OFFLINE_WAY}")
    import datasets

    datasets.disable_progress_bars()
    try:
        return datasets.load_dataset(path, name=configuration, split=split, streaming=True)
    except (ValueError, FileNotFoundError, datasets.exceptions.DatasetsError) as error:
        what = f"no data set {path!r} with configuration {configuration!r} and split {split!r}: {error}"
        raise DataError(what, where=path, fix="check the three names in the recipe") from error
