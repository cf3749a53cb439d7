"""config: strict, and helpful when something does not fit."""

from pathlib import Path
from typing import Literal

import pydantic
import pytest

from mcontriever.config import ColumnPairsSection, Section, dump_config, load_config
from mcontriever.config.views import CropsView
from mcontriever.config.yaml_files import read_yaml
from mcontriever.errors import ConfigError


class Run(Section):
    steps: int = pydantic.Field(gt=0)
    learning_rate: float = 1e-3
    output: str = "runs/x"


class Whole(Section):
    run: Run
    languages: list[str] = []
    kind: Literal["moco", "inbatch"] = "moco"
    maybe: Run | None = None


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "c.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_values_and_overrides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA", "/data")
    languages = "languages: [no, en, on, 12:30, 2026-01-01]\n"
    path = write(tmp_path, "run: {steps: 5, learning_rate: 1e-5, output: '${DATA}/run'}\n" + languages)
    config = load_config(Whole, path, ["run.steps=7", "kind=inbatch", "maybe.steps=1"])
    assert (config.run.steps, config.run.learning_rate, config.run.output) == (7, 1e-5, "/data/run")
    assert config.languages == ["no", "en", "on", "12:30", "2026-01-01"]  # Norwegian is a language, not a false
    assert config.maybe == Run(steps=1)
    again = load_config(Whole, write(tmp_path, dump_config(config)))
    assert again == config


@pytest.mark.parametrize(
    ("text", "overrides", "expected"),
    [
        ("run: {step: 5}", [], ["missing key run.steps", "unknown key run.step", "did you mean run.steps?"]),
        ("runs: {steps: 5}\nrun: {steps: 1}", [], ["unknown key runs", "did you mean run?"]),
        ("run: {steps: 5, zzz: 1}", [], ["unknown key run.zzz", "valid keys: learning_rate, output, steps"]),
        ("run: {steps: 5}\nmaybe: {steps: 1, ouput: a}", [], ["maybe.ouput", "did you mean maybe.output?"]),
        ("run: {steps: 0}", [], ["run.steps: Input should be greater than 0 (found 0)"]),
        ("run: {steps: 5}\nkind: mocco", [], ["kind: Input should be 'moco' or 'inbatch' (found 'mocco')"]),
        ("run: {steps: 5}", ["run.steps"], ["--set run.steps: expected section.key=value"]),
        ("run: {steps: 5}", ["run.stpes=6"], ["unknown key run.stpes", "did you mean run.steps?"]),
        ("run: {steps: 5, output: '${NOT_SET_ANYWHERE}'}", [], ["variable NOT_SET_ANYWHERE is not set"]),
        ("run: [", [], ["not valid YAML"]),
        ("run: {steps: 5}\nrun: {steps: 6}", [], ["not valid YAML", "run occurs twice", "line 2"]),
        ("run: {steps: 5, steps: 6}", [], ["steps occurs twice"]),
        ("run: {steps: 5, learning_rate: .nan}", [], ["run.learning_rate: Input should be a finite number"]),
        ("just words", [], ["expected keys and values at the top, found str"]),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, overrides: list[str], expected: list[str]) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_config(Whole, path, overrides)
    for part in expected:
        assert part in str(caught.value)


def test_a_missing_file_names_the_nearest(tmp_path: Path) -> None:
    write(tmp_path, "run: {steps: 5}")
    with pytest.raises(ConfigError, match=r"did you mean .*c\.yaml\?"):
        load_config(Whole, tmp_path / "cc.yaml")


def test_a_configuration_never_changes(tmp_path: Path) -> None:
    config = load_config(Whole, write(tmp_path, "run: {steps: 5}"))
    with pytest.raises(pydantic.ValidationError):
        config.run.steps = 6  # type: ignore[misc]


def test_column_pairs_of_each_language_share_what_they_have_together() -> None:
    section = ColumnPairsSection(
        paths=["en-{language}.jsonl"], columns=("en", "{language}"), languages=("en", "{language}"),
        each_language=["ar", "sw"], share=0.3, swap_probability=0.5, code_switch=True,
    )  # fmt: skip
    arabic, swahili = section.of_each_language()
    assert (arabic.paths, arabic.columns, arabic.languages) == (["en-ar.jsonl"], ("en", "ar"), ("en", "ar"))
    assert (swahili.share, swahili.swap_probability, swahili.code_switch) == (0.15, 0.5, True)
    alone = section.model_copy(update={"each_language": []})
    assert alone.of_each_language() == [alone]


def test_spans_grow_from_their_least_to_their_most() -> None:
    with pytest.raises(ValueError, match=r"min_ratio 0\.4 is above max_ratio 0\.2"):
        CropsView(kind="crops", min_ratio=0.4, max_ratio=0.2)


def test_an_anchor_that_merges_another_may_be_merged_itself(tmp_path: Path) -> None:
    path = tmp_path / "anchors.yaml"
    path.write_text("a: &a {x: 0}\nouter:\n  base: &b {<<: *a, x: 1}\nchild: {<<: *b, y: 2}\n")
    assert read_yaml(path)["child"] == {"x": 1, "y": 2}
