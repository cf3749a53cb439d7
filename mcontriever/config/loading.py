"""From a file and `--set section.key=value` to a checked configuration, and back to YAML."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import pydantic
import yaml

from mcontriever.config.mistakes import explain
from mcontriever.config.sections import Section
from mcontriever.config.yaml_files import expand_environment, parse_yaml, read_yaml
from mcontriever.errors import ConfigError
from mcontriever.shipped import shipped

Model = TypeVar("Model", bound=Section)
Config = TypeVar("Config")


def load_config(model: type[Model], path: str | Path, overrides: list[str] | None = None) -> Model:
    """Read `path` as YAML, apply overrides ("run.steps=100"), check everything against `model`."""
    return parse_config(model, read_yaml(path), source=str(path), overrides=overrides)


def parse_config(model: type[Model], values: Any, source: str, overrides: list[str] | None = None) -> Model:
    return parse_one_of(pydantic.TypeAdapter(model), [model], values, source, overrides)


def parse_one_of(
    adapter: pydantic.TypeAdapter[Config],
    models: Sequence[type[Section]],
    values: Any,
    source: str,
    overrides: list[str] | None = None,
) -> Config:
    """For a union of models: `adapter` chooses one of `models` by its discriminator."""
    if not isinstance(values, dict):
        raise ConfigError(
            f"expected keys and values at the top, found {type(values).__name__}",
            where=source,
            fix=f"start from the sections {', '.join(models[0].model_fields)}",
        )
    for override in overrides or []:
        _apply_override(values, override)
    try:
        return adapter.validate_python(values)
    except pydantic.ValidationError as error:
        raise explain(models, error, source) from error


def recipe_file(path_or_name: str) -> Path:
    """A recipe's file, or that of one which ships with the package, by its name."""
    path = Path(path_or_name)
    if not path.exists() and path.name == path_or_name and not path.suffix:
        return shipped(f"data_recipes/{path_or_name}.yaml")
    return path


def dump_config(config: Section) -> str:
    """The resolved values as YAML, as `--print-config` shows them."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _apply_override(values: dict[str, Any], override: str) -> None:
    path, separator, text = override.partition("=")
    keys = path.strip().split(".")
    if not separator or not all(keys):
        raise ConfigError(f"--set {override}: expected section.key=value", fix="for example --set run.steps=100")
    try:
        value = expand_environment(parse_yaml(text), source=f"--set {path}")
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {path}: {text!r} is not a YAML value", fix="quote the value") from error
    target: Any = values
    for name in keys[:-1]:
        key = _list_index(target, name, path) if isinstance(target, list) else name
        if isinstance(target, dict) and not isinstance(target.get(key), dict | list):
            target[key] = {}
        target = target[key]
    target[_list_index(target, keys[-1], path) if isinstance(target, list) else keys[-1]] = value


def _list_index(values: list[Any], name: str, path: str) -> int:
    """`sources.0.paths` means the first source."""
    if not name.isdigit() or int(name) >= len(values):
        raise ConfigError(f"--set {path}: {name} is not an index of a list of {len(values)}", fix="count from 0")
    return int(name)
