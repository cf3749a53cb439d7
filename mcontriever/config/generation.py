"""`mcontriever generate --config FILE`."""

import typing

import pydantic

from mcontriever.config.sections import AboveZero, Count, Section


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
