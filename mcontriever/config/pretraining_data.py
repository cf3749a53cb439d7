"""The section `data` of pre-training: token shards, and the pairs that are mixed in."""

import re
import typing

import pydantic

from mcontriever.config.sections import AboveZero, Count, Section, Share
from mcontriever.config.teacher import TaughtTextsSection
from mcontriever.config.views import AugmentationSection, CodeSwitchSection, CropsView, InverseClozeView


class ColumnPairsSection(Section):
    """Pairs from two columns of JSON lines, mixed in: titles and bodies, questions and answers, or translations.

    `{language}` in paths, columns and languages is replaced by each of `each_language`; the share is theirs together.
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
    languages: list[str] = pydantic.Field(min_length=1)  # besides English
    same_part: str
    share: float = pydantic.Field(gt=0, lt=1)  # of all samples
    swap_probability: Share = 0.5

    @pydantic.field_validator("same_part")
    @classmethod
    def _has_a_group(cls, same_part: str) -> str:
        try:
            groups = re.compile(same_part).groups
        except re.error as error:
            raise ValueError(f"{same_part!r} is not a regular expression: {error}") from error
        if not groups:
            raise ValueError(f"{same_part!r} has no group: put brackets around what the ids have in common")
        return same_part


class PretrainData(Section):
    """`tokens` is what `mcontriever prepare` wrote; `texts` are a teacher's, for the objective distil."""

    tokens: str | None = None
    texts: TaughtTextsSection | None = None
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
        windows = [self.window] if self.tokens else []
        taught = [self.texts.max_tokens] if self.texts else []
        return max([*windows, *taught, *(pairs.max_tokens or 0 for pairs in self.column_pairs)])

    @pydantic.model_validator(mode="after")
    def _has_a_source(self) -> typing.Self:
        if self.tokens is None and self.texts is None:
            raise ValueError("give tokens (what mcontriever prepare wrote), or texts (a teacher's stores)")
        return self
