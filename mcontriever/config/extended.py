"""`extends: FILE` in a YAML file: a section starts from that file's values, and names only what differs.

    extends: contriever_english.yaml        # relative to this file
    objective: {queue_size: 65536}

It may be at the top of a file or in any section, and the other file may extend a third one. A section that has
another `kind`, `format` or `type` than the one it would start from is a section of its own: nothing is taken over.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from mcontriever.errors import ConfigError

EXTENDS = "extends"
_CHOICES = ("kind", "format", "type")


def extended(path: Path, read: Callable[[Path], Any], above: tuple[Path, ...] = ()) -> Any:
    """The values of `path`, which `read` parses, with every `extends` in them resolved."""
    if path.resolve() in above:
        chain = " > ".join(str(one.name) for one in (*above, path))
        raise ConfigError(f"a file extends itself: {chain}", where=path, fix="remove one `extends` of the chain")
    return _resolved(read(path), path, read, (*above, path.resolve()))


def _resolved(value: Any, path: Path, read: Callable[[Path], Any], above: tuple[Path, ...]) -> Any:
    if isinstance(value, list):
        return [_resolved(item, path, read, above) for item in value]
    if not isinstance(value, dict):
        return value
    own = {key: _resolved(item, path, read, above) for key, item in value.items() if key != EXTENDS}
    if EXTENDS not in value:
        return own
    if not isinstance(value[EXTENDS], str):
        raise ConfigError(f"extends is {value[EXTENDS]!r}", where=path, fix="name one YAML file")
    start = extended(path.parent / value[EXTENDS], read, above)
    if not isinstance(start, dict):
        what = f"extends names {value[EXTENDS]}, which holds no keys and values"
        raise ConfigError(what, where=path, fix="name a file that begins with keys")
    return merged(start, own)


def merged(start: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """`own` over `start`, section by section; lists are replaced."""
    result = dict(start)
    for key, value in own.items():
        before = start.get(key)
        if isinstance(value, dict) and isinstance(before, dict) and not _is_another(before, value):
            value = merged(before, value)
        result[key] = value
    return result


def _is_another(before: dict[str, Any], value: dict[str, Any]) -> bool:
    return any(choice in value and value[choice] != before.get(choice) for choice in _CHOICES)
