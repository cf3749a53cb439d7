"""YAML as configurations hold it: `no` is Norwegian, 1e-5 a number, ${NAME} of the environment, `extends` of a file."""

import difflib
import itertools
import os
import re
from pathlib import Path
from typing import Any

import yaml

from mcontriever.config.extended import extended
from mcontriever.errors import ConfigError

MAX_CHARACTERS, MAX_VALUES, MAX_DEPTH = 1 << 22, 100_000, 50


def read_yaml(path: str | Path) -> Any:
    """Parse a YAML file and those it extends, with ${NAME} replaced from the environment in their text values."""
    return expand_environment(extended(Path(path), _parsed), source=str(path))


def _parsed(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError("no such file", where=path, fix=_nearest_file(path)) from error
    except (IsADirectoryError, UnicodeDecodeError, PermissionError) as error:
        raise ConfigError(f"cannot be read as UTF-8 text: {error}", where=path, fix="give a YAML file") from error
    try:
        return parse_yaml(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"not valid YAML: {' '.join(str(error).split())}", where=path, fix="fix the file") from error


def expand_environment(value: Any, source: str) -> Any:
    """Replace ${NAME} in every string of a parsed YAML value."""
    if isinstance(value, dict):
        return {key: expand_environment(item, source) for key, item in value.items()}
    if isinstance(value, list):
        return [expand_environment(item, source) for item in value]
    if isinstance(value, str):
        return re.sub(r"\$\{(\w+)\}", lambda match: _environment(match[1], source), value)
    return value


def parse_yaml(text: str) -> Any:
    """One document, within bounds: a few lines of aliases can expand to more values than fit into memory."""
    if len(text) > MAX_CHARACTERS:
        raise yaml.YAMLError(f"{len(text):,} characters, at most {MAX_CHARACTERS:,} are read")
    loader = _SafeLoader(text)
    node = loader.get_single_node()
    if node is None:
        return None
    _count_values(node, {})
    return loader.construct_document(node)


def _count_values(node: yaml.Node, counts: dict[int, int]) -> int:
    """How many values the node has, with every alias replaced by its value."""
    if id(node) in counts:
        if not counts[id(node)]:
            raise yaml.YAMLError(f"a value contains itself:{node.start_mark}")
        return counts[id(node)]
    counts[id(node)] = 0
    inside = list(itertools.chain(*node.value)) if isinstance(node, yaml.MappingNode) else node.value
    total = 1 + (0 if isinstance(node, yaml.ScalarNode) else sum(_count_values(child, counts) for child in inside))
    if total > MAX_VALUES:
        raise yaml.YAMLError(f"aliases expand to more than {MAX_VALUES:,} values:{node.start_mark}")
    counts[id(node)] = total
    return total


class _SafeLoader(yaml.SafeLoader):
    """YAML where 1e-5 is a number, and `no` (Norwegian), 12:30 and dates stay text. A key occurs once."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise yaml.YAMLError(f"more than {MAX_DEPTH} levels of nesting")
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    raise yaml.composer.ComposerError(None, None, f"{key.value} occurs twice", key.start_mark)
                seen.add((key.tag, key.value))
        return node


_READ_OTHERWISE = {f"tag:yaml.org,2002:{name}" for name in ("bool", "float", "int", "timestamp")}
_SafeLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _READ_OTHERWISE]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_SafeLoader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9][\d_]*)$"), list("-+0123456789")
)
_SafeLoader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|false|False)$"), list("tTfF"))
_SafeLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\d[\d_]*\.\d*(?:[eE][-+]?\d+)?|\d[\d_]*[eE][-+]?\d+|\.\d+(?:[eE][-+]?\d+)?|\.inf|\.nan)$"),
    list("-+.0123456789"),
)


def _environment(name: str, source: str) -> str:
    if name not in os.environ:
        raise ConfigError(f"the environment variable {name} is not set", where=source, fix=f"export {name}=...")
    return os.environ[name]


def _nearest_file(path: Path) -> str:
    folder = path.parent if path.parent.is_dir() else Path(".")
    names = [entry.name for entry in folder.iterdir() if entry.suffix in (".yaml", ".yml")]
    near = difflib.get_close_matches(path.name, names, n=1)
    return f"did you mean {folder / near[0]}?" if near else "check the path"
