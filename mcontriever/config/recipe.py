"""A recipe of a corpus: `mcontriever prepare RECIPE` and `mcontriever tokenizer RECIPE`."""

import typing
from typing import Any

import pydantic

from mcontriever.config.loading import load_config, recipe_file
from mcontriever.config.sections import Section

READERS_WITH_FIELDS = ("ccnet", "jsonl", "parquet", "hub")


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
            raise ValueError("a path has {language}, but no languages are listed")
        has_fields = self.reader in READERS_WITH_FIELDS and self.fields.language is not None
        if not in_path and not has_fields and len(self.languages) != 1:
            raise ValueError(
                f"the reader {self.reader} cannot tell the language: list one language, or put {{language}} in the path"
            )
        if self.titles and not (self.fields.title and self.reader in READERS_WITH_FIELDS):
            raise ValueError("titles: true needs a reader with fields, and fields.title")
        return self


class RecipeDuplicates(Section):
    """`exact` keeps the first of equal texts. `near` drops likely near-duplicates too (MinHash over shingles)."""

    exact: bool = True
    near: bool = False
    near_similarity: float = pydantic.Field(default=0.8, gt=0, lt=1)


class RecipeFacts(Section):
    """What a recipe of any kind says about its corpus before it says how to read it."""

    name: str
    licence: str
    description: str = ""
    expected: dict[str, Any] = {}
    disk: str = ""


class PrepareRecipe(RecipeFacts):
    """A corpus: `name`, `licence`, where it comes from and what to expect, and its sources."""

    normalisation: typing.Literal["none", "basic"] = "none"
    duplicates: RecipeDuplicates = RecipeDuplicates()
    sources: list[RecipeSource] = pydantic.Field(min_length=1)


def load_recipe(path_or_name: str, overrides: list[str] | None = None) -> PrepareRecipe:
    """A recipe's file, or the name of one that ships with the package."""
    return load_config(PrepareRecipe, recipe_file(path_or_name), overrides)
