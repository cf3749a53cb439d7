"""What a disk or a stranger does to a file: each function changes one file in its place."""

import json
import os
import pickle
import random
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

Damage = Callable[[Path], object]


def _missing(path: Path) -> None:
    path.unlink()


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _a_dangling_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0" * 64)


def _noise(path: Path) -> None:
    path.write_bytes(_drawn(path).randbytes(path.stat().st_size))


def _flipped_first(path: Path) -> None:
    _flip(path, 0)


def _flipped_middle(path: Path) -> None:
    _flip(path, path.stat().st_size // 2)


def _flipped_last(path: Path) -> None:
    _flip(path, path.stat().st_size - 1)


def _zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def _pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps(_Bomb()))


class _Bomb:
    """Unpickling it would make a file named RAN: code out of a file."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch RAN",)


def _drawn(path: Path) -> random.Random:
    return random.Random(zlib.crc32(path.name.encode()))


def _flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 0x55
    path.write_bytes(data)


ANY_FILE: dict[str, Damage] = {
    "missing": _missing,
    "empty": _empty,
    "a folder": _a_folder,
    "a dangling link": _a_dangling_link,
    "cut": _cut,
    "longer": _longer,
    "noise": _noise,
    "zeros": _zeros,
    "first byte": _flipped_first,
    "middle byte": _flipped_middle,
    "last byte": _flipped_last,
    "pickled": _pickled,
}

ODD_JSON = {
    "null": "null",
    "a list": "[]",
    "an object": "{}",
    "a number": "7",
    "a string": '"x"',
    "deep": "[" * 100_000,
    "a huge number": '{"format": 1e999, "rows": 1' + "0" * 400 + "}",
    "half a surrogate": '{"\\ud800": "\\udfff"}',
    "twice": "{}{}",
}


def odd_json(name: str) -> Damage:
    return lambda path: path.write_text(ODD_JSON[name])


ODD_VALUES: dict[str, Any] = {
    "null": None,
    "negative": -1,
    "huge": 10**12,
    "fraction": 0.5,
    "text": "abc",
    "path": "../../etc/passwd",
    "absolute": "/etc/passwd",
    "list": [],
    "object": {},
    "flag": True,
}


def places_in(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every key and index of a JSON value; of a list only the first item."""
    found: list[tuple[Any, ...]] = []
    items = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, inner in items:
        found += [(*place, key), *places_in(inner, (*place, key))]
    return found


def with_value(path: Path, place: tuple[Any, ...], value: Any) -> None:
    """The JSON file with another value in this place; ... (an ellipsis) removes it."""
    whole = json.loads(path.read_text())
    inner = whole
    for key in place[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    path.write_text(json.dumps(whole))
