"""What the server answers, for OpenAPI's description: the answers themselves are written without a detour."""

from typing import Any

import pydantic

from mcontriever.serving.served import StoreCard


class HitAnswer(pydantic.BaseModel):
    rank: int
    id: str
    score: float
    language: str
    title: str
    text: str = pydantic.Field(description="The best passage of the document.")
    confidence: float | None = pydantic.Field(
        default=None, description="With calibrated scores: the probability that it answers."
    )
    parts: dict[str, float] | None = pydantic.Field(default=None, description="With explain.")
    title_marks: list[tuple[int, int]] | None = pydantic.Field(default=None, description="With marks: from, to.")
    text_marks: list[tuple[int, int]] | None = pydantic.Field(default=None, description="With marks: in characters.")


class SearchResults(pydantic.BaseModel):
    store: str
    took_ms: float
    languages: dict[str, int] = pydantic.Field(description="The hits by language.")
    hits: list[HitAnswer]


class EmbedAnswer(pydantic.BaseModel):
    model: str
    dimension: int
    vectors: list[list[float]]


class OpenAIEmbedding(pydantic.BaseModel):
    object: str
    index: int
    embedding: list[float] | str


class OpenAIAnswer(pydantic.BaseModel):
    object: str
    data: list[OpenAIEmbedding]
    model: str
    usage: dict[str, int]


class OpenAIModels(pydantic.BaseModel):
    object: str
    data: list[dict[str, Any]]


class StoreList(pydantic.BaseModel):
    stores: list[StoreCard]
