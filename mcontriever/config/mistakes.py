"""What pydantic found wrong, as one error that names the keys as they stand in the file, and the nearest valid ones."""

import difflib
import types
import typing
from collections.abc import Iterator
from typing import Any

import pydantic

from mcontriever.config.sections import Section
from mcontriever.errors import ConfigError


def explain(model: type[Section], error: pydantic.ValidationError, source: str) -> ConfigError:
    problems = [_explain_one(model, item) for item in error.errors(include_url=False)]
    what = (
        problems[0][0] if len(problems) == 1 else "\n  ".join([f"{len(problems)} problems", *(p[0] for p in problems)])
    )
    fixes = list(dict.fromkeys(fix for _, fix in problems if fix))
    return ConfigError(what, where=source, fix="; ".join(fixes) or "mend the values named above")


def _explain_one(model: type[Section], item: Any) -> tuple[str, str | None]:
    location, beside = _locate(model, item["loc"])
    key = ".".join(location)
    if item["type"] == "extra_forbidden":
        valid = sorted({name for section in beside for name in section.model_fields})
        near = difflib.get_close_matches(location[-1], valid, n=1, cutoff=0.5)
        fix = f"did you mean {'.'.join([*location[:-1], near[0]])}?" if near else f"valid keys: {', '.join(valid)}"
        return f"unknown key {key}", fix
    if item["type"] == "missing":
        return f"missing key {key}", f"add {key}"
    message = item["msg"].removeprefix("Value error, ")
    return f"{key or 'values'}: {message} (found {item['input']!r})"[:600], None


def _locate(model: Any, location: tuple[Any, ...]) -> tuple[list[str], set[type[Section]]]:
    """The keys of a place in the file, and the sections in which its last key stands.

    Between the keys pydantic puts the `kind` that chose among several sections; it is no key, so it is left out.
    """
    keys: list[str] = []
    sections: set[type[Section]] = {model}
    for number, part in enumerate(location):
        of_kind = {section for section in sections if part in _kinds(section)}
        if of_kind:
            sections = of_kind
            continue
        keys.append(str(part))
        if number + 1 < len(location):
            fields = [section.model_fields[part].annotation for section in sections if part in section.model_fields]
            sections = {inner for field in fields for inner in _sections_of(field)} if fields else sections
    return keys, sections


def _kinds(section: type[Section]) -> tuple[Any, ...]:
    return typing.get_args(section.model_fields["kind"].annotation) if "kind" in section.model_fields else ()


def _sections_of(annotation: Any) -> Iterator[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    elif isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is not None:
        for argument in typing.get_args(annotation):
            yield from _sections_of(argument)
