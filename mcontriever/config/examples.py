"""Labelled queries, for `train` and `mine`: in a file of their own (a recipe), or as a section."""

import typing
from typing import Any

import pydantic

from mcontriever.config.loading import load_config, recipe_file
from mcontriever.config.recipe import RecipeFacts
from mcontriever.config.sections import Section


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
    unlabelled: bool = False  # msmarco, for `mine`: the queries that the qrels (if any) name no positive for
    strict: bool = False  # stop at the first mistake instead of counting them
    cache: str | None = None  # None: beside the files, or in the user's cache if that cannot be written


class ExamplesRecipe(RecipeFacts):
    """A labelled corpus: `name`, `licence`, where it comes from and what to expect, and how it is read."""

    examples: ExamplesSection


def _examples(given: Any) -> Any:
    """A name of a recipe that ships, or a recipe's file, instead of its examples."""
    return load_examples_recipe(given).examples if isinstance(given, str) else given


def load_examples_recipe(path_or_name: str) -> ExamplesRecipe:
    return load_config(ExamplesRecipe, recipe_file(path_or_name))


Examples = typing.Annotated[ExamplesSection, pydantic.BeforeValidator(_examples)]
