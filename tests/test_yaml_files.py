"""yaml_files.py: what could fill memory or the stack is refused with one message; ordinary aliases are read."""

from pathlib import Path

import pytest

from mcontriever.config.yaml_files import MAX_CHARACTERS, read_yaml
from mcontriever.errors import ConfigError

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]\n" for level in range(1, 10)
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (BOMB, r"aliases stand for more than 100,000 values"),
        ("a: &a [1, *a]", r"a value contains itself"),
        ("a: &a {b: {c: *a}}", r"a value contains itself"),
        ("a: " + "[" * 900, r"more than 50 levels of nesting"),
        ("a: " + "{b: " * 900, r"more than 50 levels of nesting"),
        ("".join(" " * level + "a:\n" for level in range(900)), r"more than 50 levels of nesting"),
        ("a: " + "x" * MAX_CHARACTERS, r"at most 4,194,304 are read"),
        ("a: \0", r"special characters are not allowed"),
    ],
)
def test_what_is_out_of_bounds_is_one_message(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(
        ConfigError, match=rf"not valid YAML: (.|\n)*{expected}(.|\n)*\n  where: .*c\.yaml\n  fix: fix the file"
    ):
        read_yaml(path)


def test_aliases_are_read(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("base: &base {x: [1, 2]}\nmany: [*base, *base, {<<: *base, y: 3}]\n")
    assert read_yaml(path)["many"] == [{"x": [1, 2]}, {"x": [1, 2]}, {"x": [1, 2], "y": 3}]
