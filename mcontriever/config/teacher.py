"""The stores of a teacher's vectors, which `mcontriever embed` made, as sections of `data`."""

import typing
from typing import Any

import pydantic

from mcontriever.config.sections import AboveZero, Count, Section


class TeacherStoreSection(Section):
    """A store with its texts. `kind`: which of the encoder's two prefixes its texts get; `share`: of all texts."""

    store: str
    kind: typing.Literal["documents", "queries"] = "documents"
    share: AboveZero = 1.0


def _store(given: Any) -> Any:
    return {"store": given} if isinstance(given, str) else given


TeacherStore = typing.Annotated[TeacherStoreSection, pydantic.BeforeValidator(_store)]


class NeutralTeacherSection(Section):
    """Remove from the teacher's vectors what shows their language. `stores` hold equal contents in all their languages.

    A vector is moved by the difference between the mean of `language` there and its own language's, so that in a pool
    of many languages a text is not found because of its language.
    """

    stores: list[str] = pydantic.Field(min_length=1)
    language: str = "en"


class TaughtTextsSection(Section):
    """Texts to learn from a teacher, each with its vector. The stores' texts are all that is read.

    Short texts train several times faster: `mcontriever embed --passage-words 40` makes a store of short ones.
    `max_tokens` cuts what the student sees (the teacher saw more; cuts are counted), `longest` skips longer texts.
    """

    stores: list[TeacherStore] = pydantic.Field(min_length=1)
    max_tokens: int = pydantic.Field(default=256, ge=8)  # with the encoder's prefix
    longest: Count | None = None  # tokens; longer texts are not drawn at all
    neutral: NeutralTeacherSection | None = None


class TeacherSection(Section):
    """The stores that hold a teacher's vectors of the examples' queries and passages, found by their texts."""

    queries: str  # made with `mcontriever embed --queries`
    passages: str
