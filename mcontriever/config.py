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
        raise ConfigError(f"--set {path}: {name} is no place in a list of {len(values)}", fix="count from 0")
    return int(name)


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
    return load_config(PrepareRecipe, _recipe_file(path_or_name), overrides)


def _recipe_file(path_or_name: str) -> Path:
    from mcontriever.shipped import shipped

    path = Path(path_or_name)
    if not path.exists() and path.name == path_or_name and not path.suffix:
        return shipped(f"data_recipes/{path_or_name}.yaml")
    return path


# --- mcontriever train ----------------------------------------------------------------------------------------------

Share = typing.Annotated[float, pydantic.Field(ge=0, le=1)]
AboveZero = typing.Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)]
Count = typing.Annotated[int, pydantic.Field(ge=1)]


class EncoderSection(Section):
    """Either `name` (a folder, a hub name, nano), or `architecture` (Hugging Face's keys) and `tokenizer` for random
    weights. What is not given stays as the model says.
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
    probability: Share | tuple[Share, Share] = 0.3  # of a word; [lowest, highest]: drawn anew for each view
    drop_untranslated: Share = 0.0  # of the words that were to be swapped, those that no dictionary knows may go
    side: typing.Literal["query", "keys", "both"] = "query"
    inflected: bool = False  # look for forms of the dictionaries' words too, by rules of thumb
    pairs_share: Share = 0.0  # of all samples, how many are bare pairs of a word and its translation


class ColumnPairsSection(Section):
    """Pairs from two columns of JSON lines, mixed in: titles and bodies, questions and answers, or translations.

    `{language}` in paths, columns and languages stands for each of `each_language`; the share is theirs together.
    """

    paths: list[str] = pydantic.Field(min_length=1)
    columns: tuple[str, str]
    languages: tuple[str, str]
    each_language: list[str] = []
    share: float = pydantic.Field(gt=0, lt=1)  # of all samples
    swap_probability: Share = 0.0
    max_tokens: int | None = pydantic.Field(default=None, ge=8)  # longer texts are cut; None: at data.window
    code_switch: bool = False  # swap words of the first column too, as data.code_switch says

    def of_each_language(self) -> "list[ColumnPairsSection]":
        if not self.each_language:
            return [self]
        share = self.share / len(self.each_language)

        def named(language: str, names: typing.Sequence[str]) -> typing.Any:
            return type(names)(name.replace("{language}", language) for name in names)  # type: ignore[call-arg]

        texts = {name: getattr(self, name) for name in ("paths", "columns", "languages")}
        return [
            self.model_copy(update={name: named(code, text) for name, text in texts.items()} | {"share": share})
            for code in self.each_language
        ]


class ParallelDocumentsSection(Section):
    """Lines of documents that exist in English and in other languages, as pairs, mixed in.

    Documents belong together whose ids match `same_part` with the same groups.
    """

    paths: str  # with {language}
    languages: list[str] = pydantic.Field(min_length=1)  # beside English
    same_part: str
    share: float = pydantic.Field(gt=0, lt=1)  # of all samples
    swap_probability: Share = 0.5

    @pydantic.field_validator("same_part")
    @classmethod
    def _has_a_group(cls, same_part: str) -> str:
        try:
            groups = re.compile(same_part).groups
        except re.error as error:
            raise ValueError(f"{same_part!r} is no regular expression: {error}") from error
        if not groups:
            raise ValueError(f"{same_part!r} has no group: put brackets around what the ids have in common")
        return same_part


class PretrainData(Section):
    """`tokens` is what `mcontriever prepare` wrote."""

    tokens: str
    languages: list[str] | None = None  # None: all that are there
    alpha: float = pydantic.Field(default=0.0, ge=0, le=1)  # a language's share grows with its size to this power
    language_factors: dict[str, AboveZero] = {}  # ... times this
    samples_together: Count = 1  # of one kind and language, one after another; the batch size: negatives of one kind
    window: int = pydantic.Field(default=256, ge=8)  # tokens
    view: CropsView | InverseClozeView = pydantic.Field(default=CropsView(kind="crops"), discriminator="kind")
    augmentation: AugmentationSection = AugmentationSection()
    code_switch: CodeSwitchSection | None = None
    column_pairs: list[ColumnPairsSection] = []
    parallel_documents: ParallelDocumentsSection | None = None

    def longest_text(self) -> int:
        """In tokens, without special ones."""
        return max(self.window, *(pairs.max_tokens or 0 for pairs in self.column_pairs), 0)


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
    metric: str = "mean/ndcg@10"  # SET/METRIC that says what is best; metrics: ndcg@10, mrr@100, recall@100
    patience: Count | None = None  # stop after so many evaluations without a new best


class AsamSection(Section):
    """Adaptive sharpness-aware minimisation: two forwards and backwards a step; ZeRO stages 0 and 1."""

    rho: AboveZero = 0.5
    eta: AboveZero = 0.01


class RunSection(Section):
    output: str
    steps: Count
    stop_at: Count | None = None  # stop after this step, to go on another time
    seed: int = 0
    log_every: Count = 10
    save_every: Count = 1000
    keep_last: Count = 2
    tensorboard: bool = False
    wandb: str | None = None  # a project's name
    asam: AsamSection | None = None


class TrainConfig(Section):
    """`deepspeed` goes to DeepSpeed as it stands; see its documentation for what it may hold. It may name a file."""

    stage: typing.Literal["pretrain"]
    encoder: EncoderSection
    data: PretrainData
    objective: MocoObjective | RelevanceObjective | InBatchObjective = pydantic.Field(discriminator="kind")
    evaluation: EvaluationSection = EvaluationSection()
    run: RunSection
    deepspeed: dict[str, Any]

    @pydantic.field_validator("deepspeed", mode="before")
    @classmethod
    def _read_block(cls, given: Any) -> Any:
        return read_yaml(given) if isinstance(given, str) else given


# --- mcontriever train, stage finetune ------------------------------------------------------------------------------


class ExamplesSection(Section):
    """Labelled queries. dpr, tevatron and columns read `paths` (files, folders, hub:NAME); beir one folder in `paths`.

    msmarco takes collection, queries, and qrels or triples. `fields` renames what a format reads (see its reader).
    """

    format: typing.Literal["dpr", "tevatron", "columns", "msmarco", "beir"]
    paths: list[str] = []
    collection: str | None = None  # where passages are found by id
    queries: str | None = None
    qrels: str | None = None
    triples: str | None = None
    split: str = "train"
    fields: dict[str, str] = {}
    strict: bool = False  # stop at the first mistake instead of counting them
    cache: str | None = None  # None: beside the files, or in the user's cache if that cannot be written


class ExamplesRecipe(Section):
    """A labelled corpus: `name`, `licence`, where it comes from and what to expect, and how it is read."""

    name: str
    licence: str
    description: str = ""
    expected: dict[str, Any] = {}
    disk: str = ""
    examples: ExamplesSection


def _examples(given: Any) -> Any:
    """A name of a recipe that ships, or a recipe's file, in the place of its examples."""
    return load_examples_recipe(given).examples if isinstance(given, str) else given


def load_examples_recipe(path_or_name: str) -> ExamplesRecipe:
    return load_config(ExamplesRecipe, _recipe_file(path_or_name))


Examples = typing.Annotated[ExamplesSection, pydantic.BeforeValidator(_examples)]


class TopicsSection(Section):
    """Batches about one topic each (TAS-B): queries clustered by the embeddings of `model`, or of the first encoder."""

    clusters: Count = 2000
    model: str | None = None


class FinetuneData(Section):
    """Queries with positives and negatives (or a recipe's name); lengths are tokens with the special ones."""

    examples: Examples
    negatives: int = pydantic.Field(default=1, ge=0)  # of each query's own; all passages of the batch are others
    hard_ratio: Share = 0.1  # the chance that such a negative is a hard one, not any passage of the data
    query_length: int = pydantic.Field(default=64, ge=8)
    passage_length: int = pydantic.Field(default=256, ge=8)
    topics: TopicsSection | None = None
    margin_bins: Count | None = None  # draw hard negatives evenly over a teacher's margins
    refresh_every: Count | None = None  # steps; then training stops until negatives are mined anew: `mcontriever run`

    def longest_text(self) -> int:
        """In tokens, without the special ones."""
        return max(self.query_length, self.passage_length) - 2


class ContrastiveObjective(Section):
    """`false_negative_margin` leaves out passages that score so much above the positive; `dimensions` is Matryoshka."""

    kind: typing.Literal["contrastive"]
    temperature: AboveZero
    false_negative_margin: float | None = None
    dimensions: list[Count] = []
    rows_per_sub_batch: Count | None = None


class PassageRelationObjective(Section):
    """PAIR: (1 - alpha) times the query's loss, alpha times the passage's."""

    kind: typing.Literal["passage_relation"]
    temperature: AboveZero
    alpha: Share = 0.1
    false_negative_margin: float | None = None
    rows_per_sub_batch: Count | None = None


class DistillationObjective(Section):
    """From a teacher's scores in the examples (`mine` with a cross_encoder writes them)."""

    kind: typing.Literal["distillation"]
    loss: typing.Literal["margin_mse", "kl"] = "margin_mse"
    temperature: AboveZero = 1.0
    teacher_temperature: AboveZero = 1.0
    contrastive_weight: float = pydantic.Field(default=0.0, ge=0)
    rows_per_sub_batch: Count | None = None


class FinetuneConfig(TrainConfig):
    stage: typing.Literal["finetune"]  # type: ignore[assignment]
    data: FinetuneData  # type: ignore[assignment]
    objective: ContrastiveObjective | PassageRelationObjective | DistillationObjective = pydantic.Field(  # type: ignore[assignment]
        discriminator="kind"
    )


def load_train_config(path: str | Path, overrides: list[str] | None = None) -> TrainConfig:
    """A configuration of the stage that it names."""
    values = read_yaml(path)
    return parse_config(train_config_of(values, str(path)), values, source=str(path), overrides=overrides)


def train_config_of(values: Any, source: str) -> type[TrainConfig]:
    stages: dict[str, type[TrainConfig]] = {"pretrain": TrainConfig, "finetune": FinetuneConfig}
    stage = values.get("stage") if isinstance(values, dict) else None
    if isinstance(values, dict) and stage not in stages:
        raise ConfigError(f"stage is {stage!r}", where=source, fix=f"choose {' or '.join(stages)}")
    return stages.get(str(stage), TrainConfig)


# --- mcontriever mine and mcontriever generate ----------------------------------------------------------------------


class SearcherSection(Section):
    """One search and what is taken from it. Ranks count from 1; the margins are in the search's own scores."""

    kind: typing.Literal["dense", "bm25"]
    negatives: Count = 30  # for each query, at most
    first_rank: Count = 1
    last_rank: Count = 200
    margin: float | None = None  # a negative scores at most the positive's score less this
    relative_margin: float | None = pydantic.Field(default=None, gt=0)  # ... and at most this share of it
    choose: typing.Literal["random", "top"] = "random"

    @pydantic.model_validator(mode="after")
    def _window_is_open(self) -> "SearcherSection":
        if self.first_rank > self.last_rank:
            raise ValueError(f"first_rank {self.first_rank} is after last_rank {self.last_rank}: nothing is left")
        return self


class CrossEncoderSection(Section):
    """A second opinion: candidates that answer with more than `max_probability` are unlabelled positives, and dropped.

    Its logits are stored with every passage, for distillation. `examined` candidates are read for each negative wanted.
    """

    name: str
    max_probability: Share | None = None  # the sigmoid of its logit; RocketQA took 0.1
    examined: AboveZero = 2.0


class MineConfig(Section):
    """Hard negatives for `examples` out of `corpus`: a store, what `embed` reads, or None: the examples' passages."""

    examples: Examples
    corpus: str | None = None
    corpus_fields: dict[str, str] = {}
    model: str | None = None  # for dense searchers
    searchers: list[SearcherSection] = pydantic.Field(min_length=1)
    cross_encoder: CrossEncoderSection | None = None
    output: str
    texts: bool = True  # False writes ids only, to be read again with `collection`
    seed: int = 0
    queries_per_block: Count = 4096
    memory_mb: int = pydantic.Field(default=500, ge=64)
    keep_store: bool = True  # the embeddings, where they were made here
    device: str = "auto"
    processes: Count = 1  # for embedding

    @pydantic.model_validator(mode="after")
    def _models_are_named(self) -> "MineConfig":
        if any(searcher.kind == "dense" for searcher in self.searchers) and self.model is None:
            raise ValueError("a dense searcher needs model: the folder or hub name of an encoder")
        has_ids = self.corpus or self.examples.collection or self.examples.format in ("msmarco", "beir")
        if not self.texts and not has_ids:
            raise ValueError("texts: false leaves ids alone, but the examples have no collection to find them in again")
        return self


class GenerateConfig(Section):
    """Texts for the passages of `corpus` by a sequence-to-sequence model: training queries, or expanded passages.

    They are drawn by top_k and top_p at `temperature`, because several likeliest ones would repeat each other.
    """

    corpus: str
    corpus_fields: dict[str, str] = {}
    language: str = ""
    model: str
    write: typing.Literal["queries", "expansion"] = "queries"
    output: str
    per_passage: Count = 3
    prompt: str = "{text}"  # {title} and {text} are the passage's
    max_passage_tokens: Count = 384
    max_query_tokens: Count = 64
    temperature: AboveZero = 1.0
    top_k: Count = 25
    top_p: float = pydantic.Field(default=0.95, gt=0, le=1)
    seed: int = 0
    batch_passages: Count = 32
    shard_passages: Count = 10_000
    max_passages: Count | None = None
    device: str = "auto"

    @pydantic.field_validator("prompt")
    @classmethod
    def _shows_the_passage(cls, prompt: str) -> str:
        if "{text}" not in prompt and "{title}" not in prompt:
            raise ValueError(f"the prompt {prompt!r} shows no passage: put {{text}} or {{title}} into it")
        return prompt


# --- mcontriever run ------------------------------------------------------------------------------------------------


class AlternateSection(Section):
    """Training and mining in turns (ANCE): `train` as in its own file, with data.refresh_every; `mine` without output.

    Each round mines with the checkpoint at hand, from the examples of `train`, into RUN/negatives/step-....
    """

    train: dict[str, Any]
    mine: dict[str, Any]


class StageSection(Section):
    """One of: a verb with its configuration, the two in turns, or any command of ours with its arguments."""

    train: dict[str, Any] | None = None
    mine: dict[str, Any] | None = None
    generate: dict[str, Any] | None = None
    alternate: AlternateSection | None = None
    command: list[str] | None = None

    @pydantic.model_validator(mode="after")
    def _is_one(self) -> "StageSection":
        if len(self.model_fields_set) != 1:
            given = ", ".join(sorted(self.model_fields_set)) or "nothing"
            raise ValueError(f"a stage is one of {', '.join(type(self).model_fields)}; found {given}")
        return self


class PlanConfig(Section):
    """Stages one after another. `shared` is a place for YAML anchors; `launcher` starts training on many processes."""

    output: str
    shared: dict[str, Any] = {}
    launcher: list[str] = []  # for example [deepspeed, --num_gpus, "8"]; empty: one process
    stages: list[StageSection] = pydantic.Field(min_length=1)
