"""What a client may ask: the fields of `/search`, `/stats`, `/embed`, `/v1/embeddings`. Unknown ones are refused."""

from typing import Annotated, Any, Literal

import pydantic

from mcontriever.config.sections import Section
from mcontriever.serving.limits import MOST_HITS, MOST_QUERY_CHARACTERS, MOST_TEXT_CHARACTERS, MOST_TEXTS

Kind = Literal["query", "document"]


def _with_text(text: str) -> str:
    if not text.strip():
        raise ValueError("the text is empty")
    return text


def _codes(values: Any) -> Any:
    """`ar,sw` and `["ar", "sw"]` are the same."""
    parts = [values] if isinstance(values, str) else values
    if not isinstance(parts, list | tuple) or not all(isinstance(part, str) for part in parts):
        return values
    return [code.strip() for part in parts for code in part.split(",") if code.strip()]


QueryText = Annotated[str, pydantic.Field(max_length=MOST_QUERY_CHARACTERS), pydantic.AfterValidator(_with_text)]
Text = Annotated[str, pydantic.Field(max_length=MOST_TEXT_CHARACTERS), pydantic.AfterValidator(_with_text)]
Texts = Annotated[tuple[Text, ...], pydantic.Field(min_length=1, max_length=MOST_TEXTS)]
OneOrMoreTexts = Annotated[
    Texts,
    pydantic.BeforeValidator(
        lambda value: (value,) if isinstance(value, str) else value, json_schema_input_type=Text | Texts
    ),
]
Codes = Annotated[tuple[str, ...], pydantic.BeforeValidator(_codes)]


class Asked(Section):
    @pydantic.field_validator("*", mode="before")
    @classmethod
    def _no_truth_as_number(cls, value: Any, info: pydantic.ValidationInfo) -> Any:
        """To Python `true` is 1."""
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation is not bool:
            raise ValueError("it takes neither true nor false")
        return value


class SearchRequest(Asked):
    """As `mcontriever search` takes it."""

    query: QueryText = pydantic.Field(description="The question, in any language.")
    store: str | None = pydantic.Field(default=None, description="The store's name; the first one if not given.")
    k: int = pydantic.Field(default=10, ge=1, le=MOST_HITS, description="How many hits.")
    offset: int = pydantic.Field(default=0, ge=0, le=MOST_HITS - 1, description="How many hits to skip.")
    mode: Literal["dense", "bm25", "hybrid"] | None = pydantic.Field(
        default=None, description="dense if the store has vectors, else bm25."
    )
    language: Codes = pydantic.Field(default=(), description="Only documents in these languages: ar,sw")
    merge: Literal["calibrated", "raw"] | None = pydantic.Field(
        default=None, description="calibrated: scores that can be compared between languages."
    )
    prefer: float | Literal["any", "own"] = pydantic.Field(
        default="any", description="Documents in the query's language: own, any, or a number added to their scores."
    )
    min_confidence: float = pydantic.Field(default=0.0, ge=0, le=1, description="No hit with a confidence below this.")
    terms: Literal["words", "subwords", "both"] = pydantic.Field(default="words", description="What BM25 counts.")
    index: str = pydantic.Field(default="auto", description="auto, exact, or a kind that mcontriever index made.")
    fusion: Literal["rrf", "weighted", "blend"] | None = pydantic.Field(
        default=None, description="hybrid, without calibration: by ranks, stretched scores, or unchanged scores."
    )
    dense_weight: float | None = pydantic.Field(default=None, ge=0, le=1, description="The weight of the vectors.")
    depth: int = pydantic.Field(
        default=100, ge=1, le=MOST_HITS, description="How many documents are fused and re-ranked."
    )
    center_languages: bool = pydantic.Field(
        default=False, description="Subtract each language's mean from its documents."
    )
    rerank: bool = pydantic.Field(default=False, description="Re-rank the best hits with the server's cross-encoder.")
    explain: bool = pydantic.Field(default=False, description="With the scores behind each hit's rank.")
    marks: bool = pydantic.Field(default=False, description="With the places of the query's words in title and text.")

    @pydantic.field_validator("prefer", mode="wrap")
    @classmethod
    def _one_message(cls, value: Any, check: pydantic.ValidatorFunctionWrapHandler) -> Any:
        try:
            return check(value)
        except pydantic.ValidationError:
            raise ValueError("it is any, own or a number") from None

    @pydantic.model_validator(mode="after")
    def _check_paging(self) -> "SearchRequest":
        if self.offset + self.k > MOST_HITS:
            raise ValueError(f"offset and k are {self.offset + self.k} together, at most {MOST_HITS} are served")
        return self

    @property
    def size(self) -> int:
        return 1


class StatsRequest(Asked):
    store: str | None = pydantic.Field(default=None, description="The store's name; the first one if not given.")


class EmbedRequest(Asked):
    texts: Texts = pydantic.Field(description="What to embed.")
    kind: Kind = pydantic.Field(
        default="document", description="query or document: many models prefix them differently."
    )
    model: str | None = pydantic.Field(
        default=None, description="A model's or a store's name; the first one if not given."
    )

    @property
    def size(self) -> int:
        return len(self.texts)


class OpenAIRequest(Asked):
    """As OpenAI's clients send it, and `input_type`."""

    input: OneOrMoreTexts = pydantic.Field(description="A text, or several.")
    model: str = pydantic.Field(description="A model's or a store's name, as /v1/models lists them.")
    encoding_format: Literal["float", "base64"] = "float"
    input_type: Kind = pydantic.Field(default="document", description="query or document.")
    dimensions: int | None = pydantic.Field(default=None, description="If given, it must be the model's own.")
    user: str | None = pydantic.Field(default=None, description="Ignored.")

    @pydantic.field_validator("input", mode="before")
    @classmethod
    def _no_tokens(cls, value: Any) -> Any:
        if isinstance(value, list) and value and isinstance(value[0], int | list):
            raise ValueError(
                "token numbers are another model's; send texts (LangChain: check_embedding_ctx_length=False)"
            )
        return value

    @property
    def texts(self) -> tuple[str, ...]:
        return self.input
