"""Which documents are dropped, and under which reason."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mcontriever.drops import Drops
from mcontriever.preparation.source_document import SourceDocument

LANGUAGE_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")  # it becomes part of a file's name
OTHER = "other"  # the language of documents whose own is unknown or not in the recipe


@dataclass(frozen=True, slots=True)
class Rules:
    """The recipe's filters for one source; what needs tokens or other documents comes later."""

    min_language_score: float | None = None
    buckets: tuple[str, ...] = ()
    min_perplexity: float | None = None
    max_perplexity: float | None = None
    min_characters: int = 1
    max_characters: int | None = None
    min_tokens: int = 1

    def reason_against(self, document: SourceDocument, bucket_of_path: str | None = None) -> str | None:
        """Why the document is dropped by what its source says about it; None if it is kept."""
        if self.buckets and (document.bucket or bucket_of_path) not in self.buckets:
            return "bucket"
        if self.min_language_score is not None and not _within(document.language_score, self.min_language_score, None):
            return "language_score"
        if (self.min_perplexity, self.max_perplexity) != (None, None) and not _within(
            document.perplexity, self.min_perplexity, self.max_perplexity
        ):
            return "perplexity"
        return None

    def reason_against_text(self, text: str) -> str | None:
        """Why the text, normalised as it will be tokenized, is dropped."""
        if not text or text.isspace():
            return "empty"
        if len(text) < self.min_characters:
            return "too_short"
        if self.max_characters is not None and len(text) > self.max_characters:
            return "too_long"
        return None


def language_of(document: SourceDocument, path_language: str | None, languages: Mapping[str, str]) -> tuple[str, bool]:
    """Our code of the document's language, and whether the recipe wants it.

    `languages` maps the source's names to our codes. A language that the document names must agree with its path's; a
    document that names none is in the language of its path, or in the only language of its source.
    """
    if not document.language:
        if path_language is not None:
            return path_language, True
        only = set(languages.values())
        return (next(iter(only)), True) if len(only) == 1 else (OTHER, False)
    named = languages.get(document.language) if languages else document.language
    if path_language is not None:
        return path_language, named == path_language
    return (named, True) if named and LANGUAGE_CODE.fullmatch(named) else (OTHER, False)


@dataclass
class Tally:
    """What became of the documents of one language: read == kept + all that was dropped."""

    read: int = 0
    kept: int = 0
    text_bytes: int = 0
    dropped: Drops = field(default_factory=Drops)

    @classmethod
    def of_record(cls, counted: Mapping[str, Any]) -> "Tally":
        tally = cls(counted["read"], counted["kept"], counted["text_bytes"])
        for reason, number in counted["dropped"].items():
            tally.dropped.add(reason, number, counted["places"][reason])
        return tally

    def to_record(self) -> dict[str, Any]:
        assert self.read == self.kept + self.dropped.total()
        return {
            "read": self.read,
            "kept": self.kept,
            "dropped": dict(sorted(self.dropped.counts.items())),
            "text_bytes": self.text_bytes,
            "places": dict(sorted(self.dropped.places.items())),
        }


def _within(value: float | None, smallest: float | None, largest: float | None) -> bool:
    if value is None or value != value:
        return False
    return (smallest is None or value >= smallest) and (largest is None or value <= largest)
