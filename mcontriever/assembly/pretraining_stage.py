"""What a configuration of stage `pretrain` asks for, as ready objects: pairs of crops, and the objective over them.

train.py calls `check`, `open_data`, `make_objective` and `make_batches` in this order; another stage has its own file
with the same four.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mcontriever.assembly.distilled_texts import CropsOfTexts, check_taught, contrast_of, distil_objective, text_batches
from mcontriever.assembly.taught_texts import OpenedTexts, open_texts
from mcontriever.config import PretrainData, TemperatureSection, TrainConfig
from mcontriever.errors import ConfigError
from mcontriever.pretraining.augment import Augmentation, Augmented, TokenKinds
from mcontriever.pretraining.code_switch import CodeSwitched
from mcontriever.pretraining.column_pairs import ColumnPairSource, ColumnPairStore
from mcontriever.pretraining.crops import CropSource, IndependentCrops, InverseCloze, View
from mcontriever.pretraining.dictionaries.bilingual_dictionary import BilingualDictionary
from mcontriever.pretraining.dictionaries.dictionary_lines import ENGLISH
from mcontriever.pretraining.dictionaries.dictionary_pairs import DictionaryPairs
from mcontriever.pretraining.dictionaries.forms_in_shards import with_forms_of
from mcontriever.pretraining.inbatch import InBatch
from mcontriever.pretraining.mixture import Mixture
from mcontriever.pretraining.moco import MoCo
from mcontriever.pretraining.pairs import PairLoader, PairSource
from mcontriever.pretraining.relevance import relevance_objective
from mcontriever.pretraining.sampling import WindowSampler
from mcontriever.pretraining.temperature import Temperature
from mcontriever.texts.locations import expand_paths
from mcontriever.token_shards import TokenStore
from mcontriever.tokens import SPECIALS_PER_ROW, tokenizer_fingerprint
from mcontriever.training.agreement import on_main_rank
from mcontriever.training.engine_settings import autocast_dtype


@dataclass(frozen=True)
class Source:
    """Pairs for a contrastive loss, a teacher's texts, or both."""

    pairs: PairSource | None
    texts: OpenedTexts | None
    languages: list[str]


def check(config: TrainConfig, settings: Mapping[str, Any]) -> None:
    """A query that meets no negative has loss 0 and teaches nothing."""
    rows = settings["train_batch_size"] // settings["gradient_accumulation_steps"]
    check_taught(config, rows)
    contrast = contrast_of(config)
    kind = None if contrast is None else contrast.kind
    if kind == "inbatch" and rows < 2:
        raise ConfigError(
            f"a batch of {rows} pair over all processes has no negatives",
            fix="raise deepspeed.train_micro_batch_size_per_gpu, or choose the objective moco",
        )
    keys = getattr(config.data.view, "keys_per_query", 1)
    if kind == "inbatch" and keys > 1:
        raise ConfigError(
            f"data.view.keys_per_query is {keys}, but the objective inbatch takes one key for each query",
            fix="set data.view.keys_per_query to 1, or choose the objective relevance",
        )


def open_data(config: TrainConfig, tokenizer: Any, folder: Path) -> tuple[Source, list[str]]:
    """Where samples come from, and the names that go with their language numbers."""
    texts = None
    if config.data.texts is not None:
        texts = open_texts(config.data, config.encoder, tokenizer, folder, config.run.seed)
    if texts is not None and contrast_of(config) is None:
        return Source(None, texts, texts.languages), texts.languages
    pairs, languages = _open_pairs(config, tokenizer, folder, texts)
    if texts is not None:
        languages += [name for name in texts.languages if name not in languages]
    return Source(pairs, texts, languages), languages


def _open_pairs(
    config: TrainConfig, tokenizer: Any, folder: Path, texts: OpenedTexts | None
) -> tuple[PairSource, list[str]]:
    data, seed, together = config.data, config.run.seed, config.data.samples_together
    views: dict[str, Callable[..., View]] = {"crops": IndependentCrops, "inverse_cloze": InverseCloze}
    view = views[data.view.kind](**data.view.model_dump(exclude={"kind"}))
    if data.tokens is None:
        assert texts is not None
        source, languages = _taught_crops(texts, view, seed)
    else:
        source, languages = _crops(data, tokenizer, view, seed)
    parts: list[tuple[float, PairSource]] = []
    switched: Callable[[PairSource], PairSource] = _identity
    if data.code_switch is not None:
        paths = {code: expand_paths([path])[0][0] for code, path in data.code_switch.dictionaries.items()}
        if data.code_switch.pairs_share:
            words = DictionaryPairs.read(paths, tokenizer, languages=languages, seed=seed)
            parts.append((data.code_switch.pairs_share, words))
        dictionary = BilingualDictionary.read(paths, tokenizer, languages=languages)
        if data.code_switch.inflected:
            dictionary = with_forms_of(_open_tokens(data, tokenizer), dictionary, tokenizer)
        switches = data.code_switch.model_dump(include={"probability", "drop_untranslated", "side"})

        def switched(pairs: PairSource) -> PairSource:
            return CodeSwitched(pairs, dictionary, seed=seed, **switches)

        source = switched(source)
    parts += _column_pairs(data, languages, tokenizer, folder, seed, switched)
    parts += _parallel_documents(data, languages, tokenizer, folder, seed)
    if parts:
        source = _mix(source, parts, seed, together)
    augmentation = Augmentation(**data.augmentation.model_dump())
    if augmentation != Augmentation(whole_words=augmentation.whole_words):
        source = Augmented(source, augmentation, kinds=TokenKinds.of(tokenizer), seed=seed)
    return source, languages


def _taught_crops(texts: OpenedTexts, view: View, seed: int) -> tuple[PairSource, list[str]]:
    return CropsOfTexts(texts, view, seed), texts.languages


def _crops(data: PretrainData, tokenizer: Any, view: View, seed: int) -> tuple[PairSource, list[str]]:
    store = _open_tokens(data, tokenizer)
    sampler = WindowSampler(
        store.window_counts,
        alpha=data.alpha,
        factors=data.language_factors,
        samples_together=data.samples_together,
        seed=seed,
    )
    return CropSource(store, sampler, view, seed=seed), list(store.languages)


def _open_tokens(data: PretrainData, tokenizer: Any) -> TokenStore:
    assert data.tokens is not None
    fingerprint = tokenizer_fingerprint(tokenizer)
    return TokenStore.open(data.tokens, fingerprint, window_tokens=data.window, languages=data.languages)


def make_objective(config: TrainConfig, encoder: Any, settings: Mapping[str, Any], source: Source) -> torch.nn.Module:
    section = contrast_of(config)
    contrast = None if section is None else _contrastive(section, encoder, settings)
    if source.texts is None:
        assert contrast is not None
        return contrast
    return distil_objective(
        config.objective, encoder, contrast, source.texts.texts.dimension, source.texts.unit, config.run.seed
    )


def _contrastive(objective: Any, encoder: Any, settings: Mapping[str, Any]) -> torch.nn.Module:
    values = objective.model_dump(exclude={"kind", "temperature"})
    values["temperature"] = _temperature(objective.temperature)
    if objective.kind == "inbatch":
        return InBatch(encoder, **values)
    has_layers = encoder.backbone.config.num_hidden_layers > 0  # a bag of subwords has no products to make faster
    values["key_compute_dtype"] = torch.bfloat16 if autocast_dtype(settings) and has_layers else None
    return (MoCo if objective.kind == "moco" else relevance_objective)(encoder, **values)


def make_batches(config: TrainConfig, source: Source, encoder: Any) -> Callable[[np.ndarray], Any]:
    rows = {"special": encoder.special, "first_position": encoder.first_position}
    max_length = config.data.longest_text() + SPECIALS_PER_ROW
    pairs = None if source.pairs is None else PairLoader(source.pairs, max_length=max_length, **rows).batch
    if source.texts is None:
        assert pairs is not None
        return pairs
    assert config.data.texts is not None
    return text_batches(source.texts, config.data.texts.max_tokens, source.languages, pairs, **rows)


def _identity(source: PairSource) -> PairSource:
    return source


def _column_pairs(
    data: PretrainData,
    languages: list[str],
    tokenizer: Any,
    folder: Path,
    seed: int,
    switched: Callable[[PairSource], PairSource],
) -> list[tuple[float, PairSource]]:
    """Languages that only the columns have are added to `languages`."""
    parts: list[tuple[float, PairSource]] = []
    for number, pairs in enumerate(one for section in data.column_pairs for one in section.of_each_language()):
        languages += [name for name in dict.fromkeys(pairs.languages) if name not in languages]
        paths = [path for path, _ in expand_paths(pairs.paths)]
        home = folder / "column-pairs" / str(number)
        on_main_rank(
            partial(_build_column_pairs, home, paths, pairs.columns, tokenizer, pairs.max_tokens or data.window)
        )
        store = ColumnPairStore(home / "pairs")
        first, second = (languages.index(name) for name in pairs.languages)
        columns: PairSource = ColumnPairSource(
            store, languages=(first, second), swap_probability=pairs.swap_probability, seed=seed
        )
        parts.append((pairs.share, switched(columns) if pairs.code_switch else columns))
    return parts


def _parallel_documents(
    data: PretrainData, languages: list[str], tokenizer: Any, folder: Path, seed: int
) -> list[tuple[float, PairSource]]:
    section = data.parallel_documents
    if section is None:
        return []
    codes = [ENGLISH, *section.languages]
    languages += [code for code in codes if code not in languages]
    paths = {code: [path for path, _ in expand_paths([section.paths], language=[code])] for code in codes}
    parts: list[tuple[float, PairSource]] = []
    for code in section.languages:
        home = folder / "parallel-documents" / code
        settings = {"same_part": section.same_part, "tokenizer": tokenizer, "max_tokens": data.window}
        on_main_rank(partial(_build_parallel_documents, home, paths, code, settings))
        store = ColumnPairStore(home / "pairs")
        both = (languages.index(ENGLISH), languages.index(code))
        pairs = ColumnPairSource(store, languages=both, swap_probability=section.swap_probability, seed=seed)
        parts.append((section.share / len(section.languages), pairs))
    return parts


def _build_parallel_documents(
    home: Path, paths: Mapping[str, list[str]], language: str, settings: Mapping[str, Any]
) -> None:
    ColumnPairStore.build_from_documents(home, paths, language=language, **settings)


def _mix(crops: PairSource, parts: list[tuple[float, PairSource]], seed: int, samples_together: int) -> PairSource:
    rest = 1 - sum(share for share, _ in parts)
    if rest <= 0:
        raise ConfigError(
            f"column_pairs and pairs_share take {1 - rest:.3g} of all samples", fix="leave a share for the crops"
        )
    return Mixture([(rest, crops), *parts], seed=seed, samples_together=samples_together)


def _build_column_pairs(
    home: Path, paths: list[str], columns: tuple[str, str], tokenizer: Any, max_tokens: int
) -> None:
    ColumnPairStore.build(home, paths, columns=columns, tokenizer=tokenizer, max_tokens=max_tokens)


def _temperature(section: TemperatureSection) -> Temperature:
    return Temperature(
        section.value, start=section.start, warmup_updates=section.warmup_updates, learned=section.learned
    )
