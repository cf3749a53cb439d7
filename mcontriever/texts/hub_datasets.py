"""Data sets of the Hugging Face hub, local folders in the hub's layout, and folders that `datasets` saved."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mcontriever.errors import DataError, HubError
from mcontriever.hosts import require_host
from mcontriever.texts.streams import DamagedFileError

OFFLINE_WAY = "download the data set where there is a network, and give the path of its files or folder"
ARROW_ROWS = 1024


def load_hub_dataset(name: str, subset: str | None, split: str, *, streaming: bool) -> Any:
    """One split. Without streaming, a hub data set in the local cache needs no network."""
    import datasets

    in_cache = not streaming and datasets.config.HF_HUB_OFFLINE
    if not Path(name).exists() and not in_cache:
        require_host(os.environ.get("HF_ENDPOINT", "https://huggingface.co"), f"{name}: {OFFLINE_WAY}")
    datasets.disable_progress_bars()
    try:
        return datasets.load_dataset(name, subset, split=split, streaming=streaming)
    except (ValueError, OSError, datasets.exceptions.DatasetsError) as error:
        what = f"cannot load the data set with configuration {subset!r} and split {split!r}: {error}"
        raise DataError(what, where=name, fix=f"check the three names, or {OFFLINE_WAY}") from error


def is_saved_dataset(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("state.json", "dataset_dict.json"))


def load_saved_dataset(folder: Path, split: str) -> Any:
    import datasets

    try:
        found = datasets.load_from_disk(str(folder))
    except (ValueError, OSError, KeyError) as error:
        raise DataError(f"`datasets` cannot read the folder: {error}", where=folder, fix="save it again") from error
    if not isinstance(found, datasets.DatasetDict):
        return found
    if split not in found:
        raise DataError(f"no split {split!r}; there are {', '.join(found)}", where=folder, fix="choose one of them")
    return found[split]


def read_dataset(dataset: Any, name: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """(row number, fields). A damaged file is a DamagedFileError; a host that is gone is a HubError."""
    number = 0
    try:
        for row in _rows(dataset):
            number += 1
            yield number, row
    except Exception as error:  # datasets lets through whatever its many readers raise
        if not Path(name).exists():
            raise HubError(f"reading stopped: {error}", where=name, fix="run the same command again") from error
        what = f"cannot be read further: {' '.join(str(error).split())[:200]}"
        damage = DamagedFileError("corrupt", what, name)
        damage.line = number + 1
        raise damage from error


def _rows(dataset: Any) -> Iterator[Mapping[str, Any]]:
    """A stored data set gives whole Arrow tables, which is many times as fast as row by row."""
    if hasattr(dataset, "num_rows"):
        for table in dataset.with_format("arrow").iter(ARROW_ROWS):
            yield from table.to_pylist()
    else:
        yield from dataset
