"""Configurations: one strict, frozen model per verb, read from YAML with `--set section.key=value` on top.

An unknown key or a bad value is one ConfigError that names the file, the key, the nearest valid key, and what is
allowed. The models at the end of the file are the whole list of what can be set.
"""

import difflib
import os
import re
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import pydantic
import yaml

from mcontriever.errors import ConfigError


class Section(pydantic.BaseModel):
    """A part of a configuration: unknown keys are refused, values never change after loading."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, validate_default=True)


Model = TypeVar("Model", bound=Section)


def load_config(model: type[Model], path: str | Path, overrides: list[str] | None = None) -> Model:
    """Read `path` as YAML, apply overrides ("run.steps=100"), check everything against `model`."""
    return parse_config(model, read_yaml(path), source=str(path), overrides=overrides)


def parse_config(model: type[Model], values: Any, source: str, overrides: list[str] | None = None) -> Model:
    if not isinstance(values, dict):
        raise ConfigError(
            f"expected keys and values at the top, found {type(values).__name__}",
            where=source,
            fix=f"start from the sections {', '.join(model.model_fields)}",
        )
    for override in overrides or []:
        _apply_override(values, override)
    try:
        return model.model_validate(values)
    except pydantic.ValidationError as error:
        raise _explain(model, error, source) from error


def read_yaml(path: str | Path) -> Any:
    """Parse a YAML file, with ${NAME} replaced from the environment in its text values."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError("no such file", where=path, fix=_nearest_file(Path(path))) from error
    except (IsADirectoryError, UnicodeDecodeError, PermissionError) as error:
        raise ConfigError(f"cannot be read as UTF-8 text: {error}", where=path, fix="give a YAML file") from error
    try:
        values = _SafeLoader(text).get_single_data()
    except yaml.YAMLError as error:
        raise ConfigError(f"not valid YAML: {' '.join(str(error).split())}", where=path, fix="mend the file") from error
    return expand_environment(values, source=str(path))


def expand_environment(value: Any, source: str) -> Any:
    """Replace ${NAME} in every string of a parsed YAML value."""
    if isinstance(value, dict):
        return {key: expand_environment(item, source) for key, item in value.items()}
    if isinstance(value, list):
        return [expand_environment(item, source) for item in value]
    if isinstance(value, str):
        return re.sub(r"\$\{(\w+)\}", lambda match: _environment(match[1], source), value)
    return value


def dump_config(config: Section) -> str:
    """The resolved values as YAML, as `--print-config` shows them."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


class _SafeLoader(yaml.SafeLoader):
    """YAML where 1e-5 is a number and `no` (Norwegian) stays text: both bite in this field."""


_SafeLoader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern) for tag, pattern in resolvers if tag not in ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:float")
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_SafeLoader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|false|False)$"), list("tTfF"))
_SafeLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\d[\d_]*\.\d*(?:[eE][-+]?\d+)?|\d[\d_]*[eE][-+]?\d+|\.\d+(?:[eE][-+]?\d+)?|\.inf|\.nan)$"),
    list("-+.0123456789"),
)


def _apply_override(values: dict[str, Any], override: str) -> None:
    path, separator, text = override.partition("=")
    keys = path.strip().split(".")
    if not separator or not all(keys):
        raise ConfigError(f"--set {override}: expected section.key=value", fix="for example --set run.steps=100")
    try:
        value = expand_environment(_SafeLoader(text).get_single_data(), source=f"--set {path}")
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {path}: {text!r} is not a YAML value", fix="quote the value") from error
    target = values
    for key in keys[:-1]:
        if not isinstance(target.get(key), dict):
            target[key] = {}
        target = target[key]
    target[keys[-1]] = value


def _environment(name: str, source: str) -> str:
    if name not in os.environ:
        raise ConfigError(f"the environment variable {name} is not set", where=source, fix=f"export {name}=...")
    return os.environ[name]


def _nearest_file(path: Path) -> str:
    folder = path.parent if path.parent.is_dir() else Path(".")
    names = [entry.name for entry in folder.iterdir() if entry.suffix in (".yaml", ".yml")]
    near = difflib.get_close_matches(path.name, names, n=1)
    return f"did you mean {folder / near[0]}?" if near else "check the path"


def _explain(model: type[Section], error: pydantic.ValidationError, source: str) -> ConfigError:
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


# --- mcontriever prepare and mcontriever tokenizer ------------------------------------------------------------------


class RecipeFields(Section):
    """What the source calls these fields. `null` means that it has none."""

    text: str = "text"
    title: str | None = "title"
    language: str | None = "language"
    language_score: str | None = None
    perplexity: str | None = None
    bucket: str | None = None


class RecipeFilters(Section):
    """What is dropped, each under its own reason. A document without the value that a filter asks for is dropped."""

    min_language_score: float | None = pydantic.Field(default=None, ge=0, le=1)
    buckets: list[str] = []
    min_perplexity: float | None = pydantic.Field(default=None, ge=0)
    max_perplexity: float | None = pydantic.Field(default=None, gt=0)
    min_characters: int = pydantic.Field(default=1, ge=1)
    max_characters: int | None = pydantic.Field(default=None, ge=1)
    min_tokens: int = pydantic.Field(default=16, ge=1)
    max_line_bytes: int = pydantic.Field(default=16_000_000, ge=1)

    @pydantic.model_validator(mode="after")
    def _bounds_are_ordered(self) -> "RecipeFilters":
        for low, high in (("min_perplexity", "max_perplexity"), ("min_characters", "max_characters")):
            smallest, largest = getattr(self, low), getattr(self, high)
            if smallest is not None and largest is not None and smallest > largest:
                raise ValueError(f"{low} {smallest} is above {high} {largest}: every document would be dropped")
        return self


class RecipeSource(Section):
    """Files of one kind. In `paths`, {language} and {bucket} take each of the values below, then wildcards expand.

    `languages` lists our codes, or maps them to what the source calls them ({sw: swh_Latn}). For the reader `hub`,
    a path is a data set's name or local folder, with `configuration` and `split`.
    """

    reader: typing.Literal["ccnet", "cc100", "jsonl", "parquet", "text", "hub"]
    paths: list[str] = pydantic.Field(min_length=1)
    languages: list[str] | dict[str, str] = []
    buckets: list[str] = []
    configuration: str | None = None
    split: str = "train"
    fields: RecipeFields = RecipeFields()
    titles: bool = False
    filters: RecipeFilters = RecipeFilters()

    @pydantic.model_validator(mode="before")
    @classmethod
    def _fields_of_the_reader(cls, values: Any) -> Any:
        """CCNet's own field names, and none where a reader has no fields, unless the recipe says otherwise."""
        if not isinstance(values, dict):
            return values
        given = values.get("fields") or {}
        scores = ("language_score", "perplexity", "bucket")
        by_reader: dict[str, dict[str, str | None]] = {
            "ccnet": {"text": "raw_content", **{name: name for name in scores}},
            "parquet": {"title": None, "language": None},
            "hub": {"title": None, "language": None},
        }
        known = by_reader.get(str(values.get("reader")), {})
        return {**values, "fields": {**known, **given}} if isinstance(given, dict) else values

    @pydantic.model_validator(mode="after")
    def _languages_are_known(self) -> "RecipeSource":
        in_path = any("{language}" in path for path in [*self.paths, self.configuration or ""])
        if in_path and not self.languages:
            raise ValueError("{language} stands in a path, but no languages are listed")
        has_fields = self.reader in ("ccnet", "jsonl") or (self.reader in ("parquet", "hub") and self.fields.language)
        if not in_path and not has_fields and len(self.languages) != 1:
            raise ValueError(
                f"the reader {self.reader} cannot tell the language: list one language, or put {{language}} in the path"
            )
        if self.titles and not (self.fields.title and self.reader not in ("cc100", "text")):
            raise ValueError("titles: true needs a reader with fields, and fields.title")
        return self


class RecipeDuplicates(Section):
    """`exact` keeps the first of equal texts. `near` drops likely near-duplicates too (MinHash over shingles)."""

    exact: bool = True
    near: bool = False
    near_similarity: float = pydantic.Field(default=0.8, gt=0, lt=1)


class PrepareRecipe(Section):
    """A corpus: `name`, `licence`, where it comes from and what to expect, and its sources."""

    name: str
    licence: str
    description: str = ""
    expected: dict[str, Any] = {}
    disk: str = ""
    normalisation: typing.Literal["none", "basic"] = "none"
    duplicates: RecipeDuplicates = RecipeDuplicates()
    sources: list[RecipeSource] = pydantic.Field(min_length=1)


def load_recipe(path_or_name: str, overrides: list[str] | None = None) -> PrepareRecipe:
    """A recipe's file, or the name of one that ships with the package."""
    from mcontriever.shipped import shipped

    path = Path(path_or_name)
    if not path.exists() and path.name == path_or_name and not path.suffix:
        path = shipped(f"data_recipes/{path_or_name}.yaml")
    return load_config(PrepareRecipe, path, overrides)


# --- mcontriever train ----------------------------------------------------------------------------------------------

Share = typing.Annotated[float, pydantic.Field(ge=0, le=1)]
AboveZero = typing.Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)]
Count = typing.Annotated[int, pydantic.Field(ge=1)]


class EncoderSection(Section):
    """Either `name` (a folder or a hub name), or `architecture` (Hugging Face's keys) and `tokenizer`: random weights.

    What is not given stays as the model says.
    """

    name: str | None = None
    architecture: dict[str, Any] | None = None
    tokenizer: str | None = None
    embeddings_from: str | None = None  # with `architecture`: begin with this checkpoint's subword embeddings
    pooling: typing.Literal["mean", "cls"] | None = None
    similarity: typing.Literal["dot", "cosine"] | None = None  # cosine: embeddings of length one
    max_length: Count | None = None  # of texts, once exported; training rows are as long as their windows
    query_prefix: str | None = None
    document_prefix: str | None = None
    dropout: Share | None = None
    checkpoint_layers: bool = False  # keep no activations, compute them again: less memory, a third more work

    @pydantic.model_validator(mode="after")
    def _has_one_origin(self) -> "EncoderSection":
        if (self.name is None) == (self.architecture is None):
            raise ValueError("give either name, or architecture and tokenizer")
        if (self.architecture is None) != (self.tokenizer is None):
            raise ValueError("architecture and tokenizer go together; a model by name has its own tokenizer")
        if self.embeddings_from and self.architecture is None:
            raise ValueError("embeddings_from goes with architecture; a model by name has its own embeddings")
        return self


class CropsView(Section):
    """Query and keys are spans of the window, of a length between the two ratios of the window's."""

    kind: typing.Literal["crops"]
    min_ratio: AboveZero = 0.1
    max_ratio: Share = 0.5
    keys_per_query: Count = 1


class InverseClozeView(Section):
    """The query is a span of the window, the key the rest; the span stays in with `keep_probability`."""

    kind: typing.Literal["inverse_cloze"]
    min_ratio: AboveZero = 0.1
    max_ratio: Share = 0.5
    keep_probability: Share = 0.1


class AugmentationSection(Section):
    """The probability of each change for a token, or for a word."""

    delete: Share = 0.0
    replace: Share = 0.0
    mask: Share = 0.0
    shuffle: Share = 0.0
    whole_words: bool = False


class CodeSwitchSection(Section):
    """Words of a view swapped for their translations. `dictionaries` by language, each with English on the left."""

    dictionaries: dict[str, str] = pydantic.Field(min_length=1)
    probability: Share = 0.3
    side: typing.Literal["query", "keys", "both"] = "query"


class ColumnPairsSection(Section):
    """Pairs from two columns of JSON lines, mixed in: titles and bodies, or translations."""

    paths: list[str] = pydantic.Field(min_length=1)
    columns: tuple[str, str]
    languages: tuple[str, str]
    share: float = pydantic.Field(gt=0, lt=1)  # of all samples
    swap_probability: Share = 0.0


class PretrainData(Section):
    """`tokens` is what `mcontriever prepare` wrote."""

    tokens: str
    languages: list[str] | None = None  # None: all that are there
    alpha: float = pydantic.Field(default=0.0, ge=0, le=1)  # a language's share grows with its size to this power
    window: int = pydantic.Field(default=256, ge=8)  # tokens
    view: CropsView | InverseClozeView = pydantic.Field(default=CropsView(kind="crops"), discriminator="kind")
    augmentation: AugmentationSection = AugmentationSection()
    code_switch: CodeSwitchSection | None = None
    column_pairs: list[ColumnPairsSection] = []


class TemperatureSection(Section):
    """Fixed at `value`, or warmed up to it from `start`, or learned from it. A bare number is a fixed temperature."""

    value: AboveZero
    start: AboveZero | None = None
    warmup_updates: int = pydantic.Field(default=0, ge=0)
    learned: bool = False


def _temperature(given: Any) -> Any:
    return {"value": given} if isinstance(given, int | float) else given


Temperature = typing.Annotated[TemperatureSection, pydantic.BeforeValidator(_temperature)]


class MocoObjective(Section):
    kind: typing.Literal["moco"]
    temperature: Temperature
    queue_size: Count = 32768
    momentum: Share = 0.999
    final_momentum: Share | None = None
    momentum_rise_updates: int = pydantic.Field(default=0, ge=0)
    batch_negatives: bool = False
    own_language_negatives: bool = False
    key_dropout: bool = False


class RelevanceObjective(MocoObjective):
    """ReContriever: several keys per query (data.view.keys_per_query), weighted by their relevance."""

    kind: typing.Literal["relevance"]  # type: ignore[assignment]
    weights: typing.Literal["clamp", "softmax"] = "clamp"


class InBatchObjective(Section):
    kind: typing.Literal["inbatch"]
    temperature: Temperature
    rows_per_sub_batch: Count | None = None  # bounds memory: texts whose activations are kept at a time


class EvaluationSection(Section):
    """Dev sets in BEIR's layout, scored before the first step, every `every` steps, and at the end."""

    sets: list[str] = []
    split: str = "test"
    every: Count = 1000
    metric: str = "mean/ndcg@10"  # SET/METRIC that says what is best; metrics are ndcg@10 and recall@100
    patience: Count | None = None  # stop after so many evaluations without a new best


class RunSection(Section):
    output: str
    steps: Count
    seed: int = 0
    log_every: Count = 10
    save_every: Count = 1000
    keep_last: Count = 2
    tensorboard: bool = False
    wandb: str | None = None  # a project's name


class TrainConfig(Section):
    """`deepspeed` goes to DeepSpeed as it stands; see its documentation for what it may hold."""

    stage: typing.Literal["pretrain"]
    encoder: EncoderSection
    data: PretrainData
    objective: MocoObjective | RelevanceObjective | InBatchObjective = pydantic.Field(discriminator="kind")
    evaluation: EvaluationSection = EvaluationSection()
    run: RunSection
    deepspeed: dict[str, Any]
