"""The section `data` of pre-training as one source of pairs: crops, with other kinds of pairs mixed in.

Other kinds: the words of dictionaries, columns of files, and documents that exist in several languages. What is built
for the latter two is kept in the run's folder.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mcontriever.assembly.distilled_texts import CropsOfTexts
from mcontriever.assembly.opened_taught_texts import OpenedTexts
from mcontriever.config import ColumnPairsSection, PretrainData
from mcontriever.errors import ConfigError
from mcontriever.pretraining.augment import Augmentation, Augmented, TokenKinds
from mcontriever.pretraining.code_switch import CodeSwitched
from mcontriever.pretraining.column_pairs import ColumnPairSource, ColumnPairStore
from mcontriever.pretraining.crops import CropSource, IndependentCrops, InverseCloze, View
from mcontriever.pretraining.dictionaries.bilingual_dictionary import BilingualDictionary
from mcontriever.pretraining.dictionaries.dictionary_lines import ENGLISH
from mcontriever.pretraining.dictionaries.dictionary_pairs import DictionaryPairs
from mcontriever.pretraining.dictionaries.forms_in_shards import with_forms_of
from mcontriever.pretraining.mixture import Mixture
from mcontriever.pretraining.pairs import PairSource
from mcontriever.pretraining.sampling import WindowSampler
from mcontriever.texts.locations import expand_paths
from mcontriever.token_shards import TokenStore
from mcontriever.tokens import tokenizer_fingerprint
from mcontriever.training.agreement import on_main_rank

VIEWS: dict[str, Callable[..., View]] = {"crops": IndependentCrops, "inverse_cloze": InverseCloze}
Parts = list[tuple[float, PairSource]]


def open_pairs(
    data: PretrainData, texts: OpenedTexts | None, tokenizer: Any, folder: Path, *, seed: int
) -> tuple[PairSource, list[str]]:
    """The source, and the names of its language numbers. Without data.tokens, crops are of a teacher's `texts`."""
    opening = _Opening(data, tokenizer, folder, seed)
    crops = opening.switched(opening.crops(texts))
    parts = [*opening.words(), *opening.columns(), *opening.parallel_documents()]
    pairs = _mixed(crops, parts, seed, data.samples_together) if parts else crops
    return _augmented(pairs, data, tokenizer, seed), opening.languages


class _Opening:
    """Languages that only other pairs than the crops have are added to `languages` as they are met."""

    def __init__(self, data: PretrainData, tokenizer: Any, folder: Path, seed: int) -> None:
        self.data, self.tokenizer, self.folder, self.seed = data, tokenizer, folder, seed
        self.languages: list[str] = []
        self._store: TokenStore | None = None
        self._dictionary: BilingualDictionary | None = None

    def crops(self, texts: OpenedTexts | None) -> PairSource:
        view = VIEWS[self.data.view.kind](**self.data.view.model_dump(exclude={"kind"}))
        if self.data.tokens is None:
            assert texts is not None, "data has tokens or texts"
            self.languages += texts.languages
            return CropsOfTexts(texts, view, self.seed)
        self._store = TokenStore.open(
            self.data.tokens,
            tokenizer_fingerprint(self.tokenizer),
            window_tokens=self.data.window,
            languages=self.data.languages,
        )
        self.languages += self._store.languages
        sampler = WindowSampler(
            self._store.window_counts,
            alpha=self.data.alpha,
            factors=self.data.language_factors,
            samples_together=self.data.samples_together,
            seed=self.seed,
        )
        return CropSource(self._store, sampler, view, seed=self.seed)

    def switched(self, pairs: PairSource) -> PairSource:
        """With words of another language, if the configuration has dictionaries."""
        if self.data.code_switch is None:
            return pairs
        if self._dictionary is None:
            paths = self._dictionary_paths()
            self._dictionary = BilingualDictionary.read(paths, self.tokenizer, languages=self.languages)
            if self.data.code_switch.inflected:
                assert self._store is not None, "checked before anything was opened"
                self._dictionary = with_forms_of(self._store, self._dictionary, self.tokenizer)
        switches = self.data.code_switch.model_dump(include={"probability", "drop_untranslated", "side"})
        return CodeSwitched(pairs, self._dictionary, seed=self.seed, **switches)

    def words(self) -> Parts:
        """Pairs of a word and its translation."""
        if self.data.code_switch is None or not self.data.code_switch.pairs_share:
            return []
        paths = self._dictionary_paths()
        words = DictionaryPairs.read(paths, self.tokenizer, languages=self.languages, seed=self.seed)
        return [(self.data.code_switch.pairs_share, words)]

    def columns(self) -> Parts:
        sections = [one for section in self.data.column_pairs for one in section.of_each_language()]
        return [(section.share, self._column(number, section)) for number, section in enumerate(sections)]

    def _column(self, number: int, section: ColumnPairsSection) -> PairSource:
        build = partial(
            ColumnPairStore.build,
            paths=[path for path, _ in expand_paths(section.paths)],
            columns=section.columns,
            tokenizer=self.tokenizer,
            max_tokens=section.max_tokens or self.data.window,
        )
        home = self.folder / "column-pairs" / str(number)
        pairs = self._built(build, home, section.languages, section.swap_probability)
        return self.switched(pairs) if section.code_switch else pairs

    def parallel_documents(self) -> Parts:
        section = self.data.parallel_documents
        if section is None:
            return []
        codes = [ENGLISH, *section.languages]
        paths = {code: [path for path, _ in expand_paths([section.paths], language=[code])] for code in codes}
        parts: Parts = []
        for code in section.languages:
            build = partial(
                ColumnPairStore.build_from_documents,
                paths=paths,
                language=code,
                same_part=section.same_part,
                tokenizer=self.tokenizer,
                max_tokens=self.data.window,
            )
            home = self.folder / "parallel-documents" / code
            pairs = self._built(build, home, (ENGLISH, code), section.swap_probability)
            parts.append((section.share / len(section.languages), pairs))
        return parts

    def _built(
        self, build: Callable[[Path], Any], home: Path, languages: Sequence[str], swap_probability: float
    ) -> PairSource:
        def build_in_home() -> None:  # the other ranks do not need its value
            build(home)

        on_main_rank(build_in_home)
        self.languages += [name for name in dict.fromkeys(languages) if name not in self.languages]
        first, second = (self.languages.index(name) for name in languages)
        store = ColumnPairStore(home / "pairs")
        return ColumnPairSource(store, languages=(first, second), swap_probability=swap_probability, seed=self.seed)

    def _dictionary_paths(self) -> dict[str, str]:
        assert self.data.code_switch is not None
        return {code: expand_paths([path])[0][0] for code, path in self.data.code_switch.dictionaries.items()}


def _mixed(crops: PairSource, parts: Parts, seed: int, samples_together: int) -> PairSource:
    rest = 1 - sum(share for share, _ in parts)
    if rest <= 0:
        raise ConfigError(
            f"column_pairs, parallel_documents and pairs_share take {1 - rest:.3g} of all samples",
            fix="lower their shares below 1 together, so that some samples are crops",
        )
    return Mixture([(rest, crops), *parts], seed=seed, samples_together=samples_together)


def _augmented(pairs: PairSource, data: PretrainData, tokenizer: Any, seed: int) -> PairSource:
    augmentation = Augmentation(**data.augmentation.model_dump())
    if augmentation == Augmentation(whole_words=augmentation.whole_words):
        return pairs
    return Augmented(pairs, augmentation, kinds=TokenKinds.of(tokenizer), seed=seed)
