"""Translations of the words of English text, with their expected counts, for a tokenizer's vocabulary.

    likely_words(english_texts, {"sw": "en-sw.tsv.gz"})       {"en": {"dog": 240, ...}, "sw": {"mbwa": 120.0, ...}}

From little text, or from novels and laws alone, a tokenizer learns no whole pieces for words of other subjects. The
dictionary has these words, and English text says which of them matter: the count of each English word is shared among
its translations by their senses.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from mcontriever.pretraining.dictionaries.dictionary_lines import ENGLISH, read_dictionary
from mcontriever.pretraining.dictionaries.inflections import Lemmas

Counts = Mapping[str, float]


def likely_words(english_texts: Iterable[str], dictionaries: Mapping[str, str]) -> dict[str, Counts]:
    """`dictionaries` by foreign language; the result has the English words too."""
    pairs = {language: [pair for pair in read_dictionary(path) if all(pair)] for language, path in dictionaries.items()}
    lemmas = Lemmas(ENGLISH, sorted({english for rows in pairs.values() for english, _, _ in rows}))
    counts = Counter[str]()
    for form, count in Counter(form for text in english_texts for form in text.split()).items():
        lemma = lemmas.lemma_of(form)
        if lemma is not None:
            counts[lemma] += count
    return {ENGLISH: counts, **{language: _translated(counts, rows) for language, rows in pairs.items()}}


def _translated(counts: Counts, pairs: list[tuple[str, str, float]]) -> Counts:
    senses_of: dict[str, float] = defaultdict(float)
    for english, _, senses in pairs:
        senses_of[english] += senses
    words: dict[str, float] = defaultdict(float)
    for english, foreign, senses in pairs:
        if english in counts:
            words[foreign] += counts[english] * senses / senses_of[english]
    return words
