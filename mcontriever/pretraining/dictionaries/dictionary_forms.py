"""Let a dictionary know the forms of its words that the token shards hold.

dictionary = with_forms_of(store, dictionary, tokenizer)
"""

from typing import Any

from mcontriever.pretraining.dictionaries.bilingual_dictionary import BilingualDictionary
from mcontriever.pretraining.dictionaries.inflections import Lemmas
from mcontriever.pretraining.dictionaries.running_words import distinct_words
from mcontriever.progress import log
from mcontriever.token_shards import TokenStore

AT_LEAST = 2  # a word seen once is more often a slip or a name


def with_forms_of(store: TokenStore, dictionary: BilingualDictionary, tokenizer: Any) -> BilingualDictionary:
    before = dictionary.counts["entries"]
    for language, words in dictionary.lemmas.items():
        code = store.languages[language]
        hashes_D, texts = distinct_words(store, code, dictionary.words, tokenizer, at_least=AT_LEAST)
        dictionary = dictionary.with_forms(language, hashes_D, texts, Lemmas(code, words))
    added = dictionary.counts["entries"] - before
    log.info(f"dictionaries: {before:,} words and directions, {added:,} more by forms of these words")
    return dictionary
