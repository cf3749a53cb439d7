"""Every configuration key that an error names exists: `data.rows` in a remedy that is itself refused helps nobody."""

import ast
import re
import types
import typing
from collections.abc import Iterator
from typing import Any

import pydantic
import pytest

from mcontriever import config, errors
from mcontriever.assembly.training_config import STAGES
from tests.test_guards import PACKAGE, sources, tree_of

MODELS: set[type[pydantic.BaseModel]] = {
    kind for name, kind in vars(config).items() if isinstance(kind, type) and name.endswith(("Config", "Recipe"))
} | set(STAGES)
USER_ERRORS = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)}
FILE_ENDINGS = {"json", "jsonl", "yaml", "tsv", "trec", "npy", "txt", "md", "py", "safetensors", "parquet", "finish"}


def sections_of(annotation: Any) -> Iterator[type[pydantic.BaseModel]]:
    """The models inside an annotation: of a section, a union of sections, a list of sections."""
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        yield annotation
    elif isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is not None:
        for argument in typing.get_args(annotation):
            yield from sections_of(argument)


def is_free(annotation: Any) -> bool:
    """A dictionary takes any key."""
    arguments = typing.get_args(annotation)
    return typing.get_origin(annotation) is dict or any(is_free(argument) for argument in arguments)


def exists(parts: list[str], models: set[type[pydantic.BaseModel]]) -> bool:
    if not parts or parts[0] == "" or not models:
        return not parts or parts[0] == ""
    if parts[0].isdigit():
        return exists(parts[1:], models)
    annotations = [model.model_fields[parts[0]].annotation for model in models if parts[0] in model.model_fields]
    if not annotations or len(parts) == 1:
        return bool(annotations)
    inner = {section for annotation in annotations for section in sections_of(annotation)}
    return any(is_free(annotation) for annotation in annotations) or exists(parts[1:], inner)


ROOTS = sorted(
    {
        name
        for model in MODELS
        for name, field in model.model_fields.items()
        if any(sections_of(field.annotation)) or name == "deepspeed"
    }
)
KEY = re.compile(rf"(?<![\w./])(?:{'|'.join(ROOTS)})(?:\.\w+)+\.?")


def error_texts(tree: ast.AST, in_config: bool) -> Iterator[str]:
    """Texts in calls of our errors (ValueError in config/ becomes one of them), and named remedies."""
    names = USER_ERRORS | ({"ValueError"} if in_config else set())
    for node in ast.walk(tree):
        is_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names
        is_remedy = isinstance(node, ast.Assign) and re.search(r"(?i)fix|way", ast.unparse(node.targets[0]))
        if is_call or is_remedy:
            for part in ast.walk(node):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    yield part.value


def named_keys() -> list[tuple[str, str]]:
    """(file, key) of every dotted key; a key that ends in a dot goes on with a value of the moment."""
    found = set()
    for path in sources():
        tree = tree_of(path)
        for text in error_texts(tree, "config" in path.relative_to(PACKAGE).parts):
            found |= {(str(path.relative_to(PACKAGE)), key) for key in KEY.findall(text)}
    return sorted(place for place in found if place[1].rsplit(".", 1)[-1] not in FILE_ENDINGS)


@pytest.mark.parametrize(("file", "key"), named_keys())
def test_every_key_that_an_error_names_exists(file: str, key: str) -> None:
    assert exists(key.split("."), MODELS), f"{file} tells people to set {key}, which is refused"


def test_the_guard_finds_keys_and_knows_what_is_none() -> None:
    assert ("finetuning/candidates.py", "data.negatives") in named_keys()
    assert len(named_keys()) > 20
    for key in ("run.steps", "deepspeed.zero_optimization.stage", "data.examples.fields.query", "sources.0.paths"):
        assert exists(key.split("."), MODELS), key
    for key in ("data.rows", "run.asam.sigma", "objective.rows", "encoder.name.first"):
        assert not exists(key.split("."), MODELS), key
