"""How a window of text becomes a query and its keys: cropped, augmented, with words of another language."""

import typing

import pydantic

from mcontriever.config.sections import AboveZero, Count, Section, Share


class _Spans(Section):
    min_ratio: AboveZero = 0.1
    max_ratio: Share = 0.5

    @pydantic.model_validator(mode="after")
    def _grow(self) -> typing.Self:
        if self.min_ratio > self.max_ratio:
            raise ValueError(f"min_ratio {self.min_ratio} is above max_ratio {self.max_ratio}")
        return self


class CropsView(_Spans):
    """Query and keys are spans of the window, of a length between the two ratios of the window's."""

    kind: typing.Literal["crops"]
    keys_per_query: Count = 1


class InverseClozeView(_Spans):
    """The query is a span of the window, the key the rest; the key keeps the span with `keep_probability`."""

    kind: typing.Literal["inverse_cloze"]
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
    probability: Share | tuple[Share, Share] = 0.3  # of a word; [lowest, highest]: drawn again for each view
    drop_untranslated: Share = 0.0  # of the words that were to be swapped, those that no dictionary knows may go
    side: typing.Literal["query", "keys", "both"] = "query"
    inflected: bool = False  # look for forms of the dictionaries' words too, by rules of thumb
    pairs_share: Share = 0.0  # of all samples, how many are bare pairs of a word and its translation
