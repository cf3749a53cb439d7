"""How often each language's text uses each piece of a tokenizer, and some of its texts to compare by.

The text is a recipe's, a file's or folder's of JSON lines, or a folder of token shards that `mcontriever prepare` made
with the same tokenizer. Shapes: V pieces.
"""

import heapq
from pathlib import Path
from typing import Any

import numpy as np

from mcontriever.chance import random_bits
from mcontriever.config import PrepareRecipe, load_recipe
from mcontriever.config.recipe import RecipeSource
from mcontriever.errors import DataError
from mcontriever.preparation.source_plan import plan_sources
from mcontriever.preparation.stage_shard import kept_texts
from mcontriever.token_manifest import MANIFEST
from mcontriever.token_shards import TokenStore
from mcontriever.tokens import tokenize_texts, tokenizer_fingerprint

TEXTS_AT_A_TIME = 256
LONGEST_TEXT = 1 << 20  # tokens of one text that are counted
SAMPLE_CHARACTERS = 400  # of a text to compare by
_JSON_LINES = ("*.jsonl", "*.jsonl.gz", "*.jsonl.xz", "*.jsonl.zst")


class CountedText:
    """One language's; `sample()` gives at most `samples` of its texts, each as likely as any other."""

    def __init__(self, tokenizer: Any, max_characters: int, samples: int) -> None:
        self.counts_V = np.zeros(len(tokenizer), dtype=np.int64)
        self._tokenizer, self._samples, self._left = tokenizer, samples, max_characters
        self._number, self._waiting = 0, list[str]()
        self._drawn = list[tuple[int, int, str]]()

    @property
    def full(self) -> bool:
        return self._left <= 0

    def add(self, text: str) -> None:
        self._draw(_beginning(text))
        self._left -= len(text)
        self._waiting.append(text)
        if len(self._waiting) == TEXTS_AT_A_TIME:
            self.count()

    def count(self) -> None:
        """What `add` stored."""
        token_ids, _ = tokenize_texts(self._tokenizer, self._waiting, LONGEST_TEXT)
        self.counts_V += np.bincount(token_ids, minlength=len(self.counts_V))
        self._waiting.clear()

    def add_tokens(self, token_ids: list[int]) -> None:
        """A text as `prepare` stored it; what is compared is as the tokenizer has normalised it."""
        text = self._tokenizer.decode(token_ids[:SAMPLE_CHARACTERS])
        self._draw(_beginning(text))
        self._left -= len(token_ids)
        self.counts_V += np.bincount(token_ids, minlength=len(self.counts_V))

    def _draw(self, text: str) -> None:
        draw = -int(random_bits(0, "compared text", self._number))
        heapq.heappush(self._drawn, (draw, self._number, text))
        if len(self._drawn) > self._samples:
            heapq.heappop(self._drawn)
        self._number += 1

    def sample(self) -> list[str]:
        return [text for _, _, text in sorted(self._drawn, key=lambda drawn: drawn[1])]


def _beginning(text: str) -> str:
    """Up to the last whole word, because half a word has pieces that no text uses."""
    return text if len(text) <= SAMPLE_CHARACTERS else text[:SAMPLE_CHARACTERS].rsplit(None, 1)[0]


def count_text(
    source: str, tokenizer: Any, languages: list[str] | None, *, max_characters: int, samples: int
) -> dict[str, CountedText]:
    """By language. A language that is wanted and that the text lacks is an error."""
    new = (tokenizer, max_characters, samples)
    if (Path(source) / MANIFEST).is_file():
        return _count_tokens(Path(source), languages, new)
    recipe = _recipe(source)
    found: dict[str, CountedText] = {}
    seen = set[str]()
    for job in plan_sources(one.model_dump() for one in recipe.sources):
        known = job.shard.language
        seen |= {known} if known else set()
        if known and (not _wanted(known, languages) or (known in found and found[known].full)):
            continue
        for language, text in kept_texts(job, recipe.normalisation):
            seen.add(language)
            if not _wanted(language, languages):
                continue
            counted = found.setdefault(language, CountedText(*new))
            if not counted.full:
                counted.add(text)
            elif known:
                break
    _check(languages, found, seen, source)
    for counted in found.values():
        counted.count()
    return {language: found[language] for language in languages or sorted(found)}


def _wanted(language: str, languages: list[str] | None) -> bool:
    return languages is None or language in languages


def _check(wanted: list[str] | None, found: dict[str, CountedText], seen: set[str], source: str) -> None:
    missing = [language for language in wanted or () if language not in found]
    if missing or not found:
        raise DataError(
            f"no text in {', '.join(missing) or 'any language'}; there is {', '.join(sorted(seen)) or 'none'}",
            where=source,
            fix="choose among these languages, or give text in the others",
        )


def _count_tokens(folder: Path, languages: list[str] | None, new: tuple[Any, int, int]) -> dict[str, CountedText]:
    tokenizer = new[0]
    store = TokenStore.open(folder, tokenizer_fingerprint(tokenizer), languages=languages)
    found = {}
    for language in store.languages:
        counted = found[language] = CountedText(*new)
        for documents in store.documents(language):
            for token_ids in documents.to_lists():
                counted.add_tokens(token_ids)
            if counted.full:
                break
    return found


def _recipe(source: str) -> PrepareRecipe:
    """The recipe, or one made up for JSON lines whose field `language` says what they are in."""
    path = Path(source)
    if path.is_dir():
        files = sorted({file for pattern in _JSON_LINES for file in path.glob(pattern)})
        if not files:
            raise DataError(
                f"neither token shards nor any file {', '.join(_JSON_LINES)}",
                where=source,
                fix="give a recipe, a folder that `mcontriever prepare` made, or JSON lines with text and language",
            )
    elif path.is_file() and path.suffix not in (".yaml", ".yml"):
        files = [path]
    else:
        return load_recipe(source)
    lines = RecipeSource(reader="jsonl", paths=[str(file) for file in files])
    return PrepareRecipe(name=path.name, licence="not stated", sources=[lines])
