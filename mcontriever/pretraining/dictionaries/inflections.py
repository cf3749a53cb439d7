"""The dictionary word that a word of running text is a form of, by rules of thumb, for code-switching.

    lemmas = Lemmas("ru", ["университет", "книга"])
    lemmas.lemma_of("Университета,")        "университет"

A dictionary lists base forms; text inflects them, and Arabic attaches articles and particles. English, Arabic, Hebrew
and Swahili have rules of their own; in other languages a form and its word share a stem and differ in their endings.
Some answers are wrong. A wrong translation costs little among many right ones; a language whose words are never found
gets no translations at all.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

MIN_STEM = 4
_ENGLISH_ENDINGS = (
    ("ies", "y"), ("es", ""), ("s", ""), ("ing", ""), ("ing", "e"),
    ("ied", "y"), ("ed", ""), ("ed", "e"), ("er", ""), ("ly", ""),
)  # fmt: skip
_ARABIC_BEGINNINGS = ("وال", "بال", "فال", "كال", "ولل", "ال", "لل", "و", "ف", "ب", "ل", "ك", "س")
_ARABIC_ENDINGS = ("", "ه", "ها", "هم", "ي", "ات", "ون", "ين", "ان", "ة", "ية", "نا", "ك", "وا", "ا", "ت", "تها", "ته")
_HEBREW_BEGINNINGS = ("וה", "שה", "ב", "ה", "ו", "כ", "ל", "מ", "ש")
_HEBREW_ENDINGS = ("", "ים", "ות", "י", "ה", "ת", "ו")


@dataclass(frozen=True)
class Endings:
    """How far a form may be from its word: letters cut off the form and off the word, and letters that both share."""

    of_form: int = 3
    of_word: int = 2
    stem: int = MIN_STEM


_ENDINGS = {"fi": Endings(5, 2), "hu": Endings(5, 1), "tr": Endings(5, 1), "te": Endings(4, 2), "ko": Endings(3, 1, 2)}


class Lemmas:
    """The words of one language's dictionary, without phrases; case is ignored."""

    def __init__(self, language: str, words: Iterable[str]) -> None:
        self._language = language
        self._word_of: dict[str, str] = {}
        for word in words:
            self._word_of.setdefault(word.casefold(), word)
        self._endings = _ENDINGS.get(language, Endings())
        self._stems = _stems(self._word_of, self._endings) if language not in _RULES else {}

    def lemma_of(self, form: str) -> str | None:
        """The dictionary's own spelling of the word, or None."""
        form = _strip_marks(form.casefold())
        for candidate in self._candidates(form):
            if candidate in self._word_of:
                return self._word_of[candidate]
        return self._by_stem(form) if self._stems else None

    def _candidates(self, form: str) -> Iterator[str]:
        yield form
        for mark in "'’":
            if mark in form:
                yield from (form.split(mark)[0], form.split(mark)[-1])
        rule = _RULES.get(self._language)
        if rule is not None:
            yield from rule(form)

    def _by_stem(self, form: str) -> str | None:
        """The word with the longest common stem, and among these the one with the shortest ending."""
        shortest = max(self._endings.stem, 0.5 * len(form))
        for cut in range(self._endings.of_form + 1):
            stem = form[: len(form) - cut]
            if len(stem) < shortest:
                return None
            if stem in self._stems:
                return self._word_of[self._stems[stem]]
        return None


def _stems(words: Iterable[str], endings: Endings) -> dict[str, str]:
    """Each beginning that is a word without an ending, and the shortest word that it may belong to."""
    stems: dict[str, str] = {}
    for word in sorted(words, key=lambda word: (len(word), word)):
        for cut in range(min(endings.of_word, len(word) - endings.stem) + 1):
            stems.setdefault(word[: len(word) - cut], word)
    return stems


def _strip_marks(form: str) -> str:
    first = next((place for place, sign in enumerate(form) if sign.isalnum()), len(form))
    last = next((place for place in range(len(form), first, -1) if _belongs(form[place - 1])), first)
    return form[first:last]


def _belongs(sign: str) -> bool:
    """Vowel signs end words in Indic scripts, but Python does not count them as letters."""
    return sign.isalnum() or (not sign.isascii() and sign.isprintable() and sign not in "،؛؟।“”«»…–—’")


def _english(form: str) -> Iterator[str]:
    for ending, instead in _ENGLISH_ENDINGS:
        stem = form.removesuffix(ending)
        if stem == form or len(stem + instead) < 3:
            continue
        yield stem + instead
        if ending in ("ing", "ed", "er") and len(stem) > 3 and stem[-1] == stem[-2]:
            yield stem[:-1]


def _affixes(form: str, beginnings: Sequence[str], endings: Sequence[str], added: Sequence[str]) -> Iterator[str]:
    """Shortest ending first within each beginning; at least three letters stay."""
    for beginning, ending in itertools.product(("", *beginnings), endings):
        if form.startswith(beginning) and form.endswith(ending) and len(form) - len(beginning) - len(ending) >= 3:
            stem = form[len(beginning) : len(form) - len(ending)]
            yield stem
            yield from (stem + letter for letter in added)


def _arabic(form: str) -> Iterator[str]:
    return _affixes(form, _ARABIC_BEGINNINGS, _ARABIC_ENDINGS, added="ة")


def _hebrew(form: str) -> Iterator[str]:
    return _affixes(form, _HEBREW_BEGINNINGS, _HEBREW_ENDINGS, added="ה")


def _swahili(form: str) -> Iterator[str]:
    """Class and tense come before the stem."""
    for cut in range(1, 5):
        if len(form) - cut >= MIN_STEM:
            yield form[cut:]


_RULES = {"en": _english, "ar": _arabic, "he": _hebrew, "sw": _swahili}
