"""Train a tokenizer for new languages, or for working without a hub, on the text of a recipe.

    mcontriever tokenizer RECIPE.yaml --output DIR --vocabulary 24000

The recipe is the one that `mcontriever prepare` reads, with the same filters. Languages are balanced by n^alpha.
"""

from collections.abc import Iterator
from pathlib import Path

from mcontriever.config import PrepareRecipe
from mcontriever.errors import ConfigError, DataError
from mcontriever.preparation.source_plan import Job, plan_sources
from mcontriever.preparation.stage_shard import kept_texts
from mcontriever.preparation.vocabulary import TOKENIZER, train_tokenizer
from mcontriever.pretraining.dictionaries.dictionary_lines import ENGLISH
from mcontriever.pretraining.dictionaries.likely_words import likely_words
from mcontriever.progress import log

__all__ = ["run", "train_tokenizer"]


def run(
    recipe: PrepareRecipe,
    output: str | Path,
    *,
    vocabulary: int,
    alpha: float = 0.3,
    max_characters: int = 100_000_000,
    seed: int = 0,
    lowercase: bool = False,
    dictionaries: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Train on at most `max_characters` of the recipe's text; no language is read beyond that.

    `dictionaries` is a path with {language}: their translations of the English text's words are trained on too.
    """
    TOKENIZER.require_replaceable(output, overwrite=overwrite)
    jobs = plan_sources(source.model_dump() for source in recipe.sources)
    texts = {
        language: RecipeTexts(jobs, language, recipe.normalisation, max_characters)
        for language in _languages(jobs, recipe.normalisation)
    }
    words = None
    if dictionaries is not None:
        words = likely_words(_english(texts, dictionaries), _dictionaries(dictionaries, sorted(texts)))
    return train_tokenizer(
        texts,
        output,
        vocabulary,
        alpha=alpha,
        max_characters=max_characters,
        seed=seed,
        lowercase=lowercase,
        words_by_language=words,
        overwrite=overwrite,
    )


def _english(texts: "dict[str, RecipeTexts]", dictionaries: str) -> "RecipeTexts":
    if ENGLISH not in texts:
        raise ConfigError(
            f"no English text in the recipe, only {', '.join(sorted(texts))}: {dictionaries} needs it",
            fix="add English to the recipe, or omit --dictionaries",
        )
    return texts[ENGLISH]


def _dictionaries(pattern: str, languages: list[str]) -> dict[str, str]:
    """The dictionaries that exist, by language."""
    found = {code: pattern.replace("{language}", code) for code in languages if code != ENGLISH}
    found = {code: path for code, path in found.items() if Path(path).is_file()}
    if not found:
        raise DataError(f"no file for any of {', '.join(languages)}", where=pattern, fix="write {language} in the path")
    log.info(f"dictionaries of {len(found)} languages: {', '.join(found)}")
    return found


class RecipeTexts:
    """The texts of one language; may be iterated any number of times."""

    def __init__(self, jobs: list[Job], language: str, normalisation: str, max_characters: int) -> None:
        self._jobs = [job for job in jobs if job.shard.language in (None, language)]
        self._language, self._normalisation, self._max_characters = language, normalisation, max_characters

    def __iter__(self) -> Iterator[str]:
        characters = 0
        for job in self._jobs:
            for language, text in kept_texts(job, self._normalisation):
                if language == self._language:
                    characters += len(text)
                    yield text
                if characters >= self._max_characters:
                    return


def _languages(jobs: list[Job], normalisation: str) -> list[str]:
    """The recipe's languages; where a source lists none, those that its documents name."""
    found = {code for job in jobs for code in job.shard.languages.values()}
    for job in jobs:
        if not job.shard.languages:
            found |= {language for language, _ in kept_texts(job, normalisation)}
    return sorted(found)
