"""What pydantic found wrong, as one error that names the keys as in the file, and the nearest valid ones."""

import difflib
import types
import typing
from collections.abc import Iterator, Sequence
from typing import Any

import pydantic

from mcontriever.config.sections import Section
from mcontriever.errors import ConfigError

DISCRIMINATORS = ("kind", "stage")
MOST_SHOWN = 200  # characters of a wrong value


def explain(models: Sequence[type[Section]], error: pydantic.ValidationError, source: str) -> ConfigError:
    return explain_items(models, error.errors(include_url=False), source)


def explain_items(models: Sequence[type[Section]], items: Sequence[Any], source: str) -> ConfigError:
    """`items` as pydantic lists them, their places counted from one of the models."""
    problems = [_explain_one(models, item) for item in items]
    what = (
        problems[0][0] if len(problems) == 1 else "\n  ".join([f"{len(problems)} problems", *(p[0] for p in problems)])
    )
    fixes = list(dict.fromkeys(fix for _, fix in problems if fix))
    return ConfigError(what, where=source, fix="; ".join(fixes) or "correct the values named above")


def _explain_one(models: Sequence[type[Section]], item: Any) -> tuple[str, str | None]:
    location, beside = _locate(models, item["loc"])
    key = ".".join(location)
    if item["type"] == "extra_forbidden":
        valid = sorted({name for section in beside for name in section.model_fields})
        near = difflib.get_close_matches(location[-1], valid, n=1, cutoff=0.5)
        fix = f"did you mean {'.'.join([*location[:-1], near[0]])}?" if near else f"valid keys: {', '.join(valid)}"
        return f"unknown key {key}", fix
    if item["type"] == "missing":
        return f"missing key {key}", f"add {key}"
    if item["type"] in ("union_tag_invalid", "union_tag_not_found"):
        return _explain_choice(location, item["ctx"])
    message, found = item["msg"].removeprefix("Value error, "), repr(item["input"])
    if len(found) > MOST_SHOWN:
        found = f"{found[:MOST_SHOWN]}..."
    return f"{key or 'values'}: {message} (found {found})", None


def _explain_choice(location: list[str], context: dict[str, str]) -> tuple[str, str | None]:
    """The key that chooses among several sections is missing, or names none of them."""
    key = ".".join([*location, context["discriminator"].strip("'")])
    if "tag" not in context:
        return f"missing key {key}", f"add {key}"
    return (
        f"{key} is {context['tag']!r}",
        f"choose {' or '.join(context['expected_tags'].replace(chr(39), '').split(', '))}",
    )


def _locate(models: Sequence[type[Section]], location: tuple[Any, ...]) -> tuple[list[str], set[type[Section]]]:
    """The keys of a place in the file, and the sections that its last key could belong to.

    Between the keys pydantic puts the tag that chose among several sections; a tag is not a key, so it is omitted.
    """
    keys: list[str] = []
    sections: set[type[Section]] = set(models)
    for number, part in enumerate(location):
        chosen = {section for section in sections if part in _tags(section)}
        if chosen:
            sections = chosen
            continue
        keys.append(str(part))
        if number + 1 < len(location):
            fields = [section.model_fields[part].annotation for section in sections if part in section.model_fields]
            sections = {inner for field in fields for inner in _sections_of(field)} if fields else sections
    return keys, sections


def _tags(section: type[Section]) -> set[Any]:
    fields = [section.model_fields[name] for name in DISCRIMINATORS if name in section.model_fields]
    return {tag for field in fields for tag in typing.get_args(field.annotation)}


def _sections_of(annotation: Any) -> Iterator[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    elif isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is not None:
        for argument in typing.get_args(annotation):
            yield from _sections_of(argument)
