"""Small JSON files, checked against a type when they are read: manifests, plans, states, settings of a model.

    facts = read_record(folder / "manifest.json", Facts)       Facts: a TypedDict, a dataclass, a pydantic model, ...

What a file says is not trusted: a wrong type is an error that names the key, and a path must stay in its folder.
"""

from pathlib import Path
from typing import Annotated, Any, TypeVar

import pydantic

from mcontriever.disk import is_plain_name, read_json
from mcontriever.errors import StoreError, UserError

T = TypeVar("T")
_ADAPTERS: dict[Any, pydantic.TypeAdapter[Any]] = {}
RESTORE = "restore the file from a copy, or make its folder again"


def _inside(path: str) -> str:
    """No other file is opened or hashed, whatever a manifest says."""
    if not all(is_plain_name(part) for part in path.split("/")):
        raise ValueError(f"{path!r} is not a file of this folder")
    return path


InnerPath = Annotated[str, pydantic.AfterValidator(_inside)]
Count = Annotated[int, pydantic.Field(ge=0)]


def read_record(
    path: Path, kind: type[T], *, error: type[UserError] = StoreError, fix: str = RESTORE, what: str = "damaged"
) -> T:
    try:
        values = read_json(path)
    except StoreError as damage:
        raise error(damage.what, where=path, fix=fix) from damage
    return checked_record(values, kind, path, error=error, fix=fix, what=what)


def checked_record(
    values: Any,
    kind: type[T],
    path: Path,
    *,
    error: type[UserError] = StoreError,
    fix: str = RESTORE,
    what: str = "damaged",
) -> T:
    try:
        return _adapter(kind).validate_python(values)
    except pydantic.ValidationError as mistake:
        first = mistake.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"]) or "the file"
        raise error(f"{what}: {key}: {first['msg']}", where=path, fix=fix) from mistake


def _adapter(kind: Any) -> pydantic.TypeAdapter[Any]:
    """Made once for each type: making one takes longer than checking most files."""
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = pydantic.TypeAdapter(kind)
    return _ADAPTERS[kind]
