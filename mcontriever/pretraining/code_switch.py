"""Code-switching: in a view, some words are replaced by their translations from bilingual dictionaries.

    dictionary = BilingualDictionary.read({"sw": "en-sw.tsv.gz"}, tokenizer, languages=["en", "sw"])
    source = CodeSwitched(crops, dictionary, probability=0.3, seed=0)

It works on token ids and in both directions: words of an English view are translated into one foreign language (drawn
for each view, all equally likely), words of a foreign view into English. A translation is drawn by its senses.

Shapes: N rows, T tokens, W words of all rows.
"""

import numpy as np

from mcontriever import chance
from mcontriever.errors import ConfigError
from mcontriever.pretraining.augment import below, key_views, place_bits
from mcontriever.pretraining.dictionaries.bilingual_dictionary import BilingualDictionary
from mcontriever.pretraining.dictionaries.words_on_tokens import word_hashes, word_lengths
from mcontriever.pretraining.pairs import PairSource, TokenPairs
from mcontriever.ragged import IntArray, Ragged
from mcontriever.word_starts import number_in_row

SIDES = ("query", "keys", "both")


class CodeSwitched:
    """Another source's pairs with words switched in the queries, the keys, or both."""

    def __init__(
        self,
        source: PairSource,
        dictionary: BilingualDictionary,
        *,
        probability: float | tuple[float, float],
        drop_untranslated: float = 0.0,
        side: str = "query",
        seed: int,
    ) -> None:
        lowest, highest = probability if isinstance(probability, tuple) else (probability, probability)
        if not 0 <= lowest <= highest <= 1:
            shown = probability if lowest == highest else f"{lowest} to {highest}"
            raise ConfigError(f"code-switching probability {shown} is not between 0 and 1")
        if not 0 <= drop_untranslated <= 1:
            raise ConfigError(f"drop_untranslated {drop_untranslated} is not between 0 and 1")
        if side not in SIDES:
            raise ConfigError(f"code-switching side {side!r} is not one of {', '.join(SIDES)}")
        self.source = source
        self.dictionary = dictionary
        self.lowest, self.highest = lowest, highest
        self.drop_untranslated = drop_untranslated
        self.side = side
        self.seed = seed

    def draw(self, samples: IntArray) -> TokenPairs:
        pairs = self.source.draw(samples)
        queries, keys = pairs.queries, pairs.keys
        if self.side != "keys":
            queries = self.switch(queries, pairs.language_B, samples, np.zeros_like(samples))
        if self.side != "query":
            key_samples, views = key_views(samples, pairs.keys_per_query)
            keys = self.switch(keys, np.repeat(pairs.language_B, pairs.keys_per_query), key_samples, views)
        return TokenPairs(queries, keys, pairs.language_B, pairs.text_B)

    def switch(self, rows: Ragged, language_N: IntArray, samples: IntArray, views: IntArray) -> Ragged:
        starts_T = self.dictionary.starts_T(rows)
        first_W = np.flatnonzero(starts_T)
        length_W = word_lengths(rows, first_W)
        row_W = rows.rows_T[first_W]
        word_T = number_in_row(rows, starts_T)

        draw_W = place_bits(self.seed, "switch", samples, views, rows, word_T)[first_W]
        share_N = self.lowest + (self.highest - self.lowest) * chance.uniform(self.seed, "switch share", samples, views)
        tried = np.flatnonzero(draw_W < share_N[row_W] * 2.0**32)
        target_N = self.dictionary.choose_targets(language_N, self.seed, samples, views)
        hash_W = word_hashes(rows, first_W)
        found = self.dictionary.find(hash_W[tried], language_N[row_W[tried]], target_N[row_W[tried]])
        switched, entry = tried[found >= 0], found[found >= 0]
        which = place_bits(self.seed, "switch to", samples, views, rows, word_T)[first_W[switched]] / 2.0**32
        translation = self.dictionary.choose_translations(entry, which)

        pool = Ragged.join([Ragged.of_lengths(rows.values_T, length_W), self.dictionary.texts.take(translation)])
        source_W = np.arange(len(first_W))
        source_W[switched] = len(first_W) + np.arange(len(switched))
        if self.drop_untranslated:
            untranslated = tried[(found < 0) & (target_N[row_W[tried]] >= 0)]
            dropped = place_bits(self.seed, "switch drop", samples, views, rows, word_T)[first_W[untranslated]]
            kept_W = np.ones(len(first_W), dtype=bool)
            kept_W[untranslated[below(dropped, self.drop_untranslated)]] = False
            kept_W |= (np.bincount(row_W, kept_W, minlength=len(rows)) == 0)[row_W]  # every row keeps a word
            source_W, row_W = source_W[kept_W], row_W[kept_W]
        replaced = pool.take(source_W)
        return Ragged.of_lengths(
            replaced.values_T, np.bincount(row_W, replaced.lengths_N, minlength=len(rows)).astype(np.int64)
        )
