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
        (BOMB, r"aliases expand to more than 100,000 values"),
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


def test_a_file_extends_another_section_by_section(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deep").mkdir()
    monkeypatch.setenv("PLACE", "here")
    (tmp_path / "deep" / "base.yaml").write_text(
        "data: {tokens: '${NOT_SET}', window: 256, list: [1]}\n"
        "objective: {kind: moco, queue_size: 4}\nrun: {steps: 3}\n"
    )
    (tmp_path / "deep" / "middle.yaml").write_text("extends: base.yaml\ndata: {tokens: '${PLACE}', list: [3]}\n")
    top = tmp_path / "top.yaml"
    top.write_text("extends: deep/middle.yaml\nobjective: {kind: inbatch}\nrun: {output: x}\n")
    expected = {
        "data": {"tokens": "here", "window": 256, "list": [3]},
        "objective": {"kind": "inbatch"},  # of another kind, so moco's queue is not taken over
        "run": {"steps": 3, "output": "x"},
    }
    assert read_yaml(top) == expected
    top.write_text("stages:\n  - train: {extends: deep/middle.yaml, objective: {queue_size: 8}}\n")
    assert read_yaml(top)["stages"][0]["train"]["objective"] == {"kind": "moco", "queue_size": 8}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("extends: c.yaml", r"a file extends itself: c\.yaml > c\.yaml\n(.|\n)*fix: remove one"),
        ("extends: gone.yaml", r"no such file\n  where: .*gone\.yaml"),
        ("extends: [a, b]", r"extends is \['a', 'b'\]\n(.|\n)*fix: name one YAML file"),
        ("extends: list.yaml", r"extends names list\.yaml, which holds no keys and values"),
    ],
)
def test_what_cannot_be_extended_is_one_message(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "list.yaml").write_text("[1, 2]")
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ConfigError, match=expected):
        read_yaml(tmp_path / "c.yaml")
