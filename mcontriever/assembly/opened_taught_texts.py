"""The texts of a teacher's stores as a source of training texts: grouped by store and language, tokenized once.

Shapes: G groups.
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mcontriever.assembly.teacher_stores import full_texts, made_from, open_teacher_stores, scores_by_cosine
from mcontriever.config import EncoderSection, PretrainData
from mcontriever.config.teacher import NeutralTeacherSection
from mcontriever.distillation.taught_texts import TaughtTexts, TextGroup, language_shifts
from mcontriever.distillation.text_rows import build_text_rows, open_text_rows
from mcontriever.encoder.saved_model import read_spec
from mcontriever.errors import DataError
from mcontriever.hub import model_folder
from mcontriever.pretraining.sampling import WindowSampler
from mcontriever.progress import log
from mcontriever.ragged import Ragged
from mcontriever.retrieval.store.embedding_store import EmbeddingStore
from mcontriever.tokens import tokenize_texts, tokenizer_fingerprint
from mcontriever.training.agreement import on_main_rank


@dataclass(frozen=True)
class OpenedTexts:
    """The texts, and which of them is sample i. `unit`: the teacher scores by cosine."""

    texts: TaughtTexts
    sampler: WindowSampler
    unit: bool

    @property
    def languages(self) -> list[str]:
        return list(dict.fromkeys(group.language for group in self.texts.groups))

    @property
    def languages_G(self) -> np.ndarray:
        """The number of each group's language."""
        return np.array([self.languages.index(group.language) for group in self.texts.groups], dtype=np.int64)


def open_texts(data: PretrainData, encoder: EncoderSection, tokenizer: Any, folder: Path, seed: int) -> OpenedTexts:
    section = data.texts
    assert section is not None
    stores = open_teacher_stores([one.store for one in section.stores])
    shifts = {} if section.neutral is None else _shifts(section.neutral, stores[0])
    groups: list[TextGroup] = []
    weights: list[float] = []
    for number, (one, store) in enumerate(zip(section.stores, stores, strict=True)):
        prefix = _prefix(encoder, "query_prefix" if one.kind == "queries" else "document_prefix")
        home = folder / "teacher-texts" / str(number)
        facts = {**made_from(store), "tokenizer": tokenizer_fingerprint(tokenizer), "prefix": prefix}
        on_main_rank(partial(_tokenize, home, store, facts, tokenizer, section.max_tokens, prefix))
        tokens = open_text_rows(home)
        prefix_tokens = len(tokenize_texts(tokenizer, [prefix], section.max_tokens)[0])
        own = _groups_of(store, tokens, data.languages, section.longest, prefix_tokens)
        own = [replace(group, shift_H=shifts.get(group.language)) for group in own]
        groups += own
        wanted = [len(group.rows) ** data.alpha * data.language_factors.get(group.language, 1) for group in own]
        weights += [one.share * weight / sum(wanted) for weight in wanted]
    _refuse_strangers(data, groups, sorted({name for store in stores for name in store.languages[1]}))
    texts = TaughtTexts(groups, stores[0].dimension)
    sampler = WindowSampler(
        {name: len(group.rows) for name, group in zip(texts.languages, groups, strict=True)},
        factors=dict(zip(texts.languages, weights, strict=True)),
        samples_together=data.samples_together,
        seed=seed,
    )
    return OpenedTexts(texts, sampler, scores_by_cosine(stores[0]))


def _shifts(section: NeutralTeacherSection, taught: EmbeddingStore) -> dict[str, np.ndarray]:
    stores = open_teacher_stores([str(taught.folder), *section.stores])[1:]  # of the same teacher
    for store in stores:
        if section.language not in store.languages[1]:
            raise DataError(
                f"no texts in {section.language!r}, to which data.texts.neutral compares the other languages",
                where=store.folder,
                fix="embed equal contents in all languages, or set data.texts.neutral.language",
            )
    return language_shifts([_language_means(store) for store in stores], section.language)


def _language_means(store: EmbeddingStore) -> dict[str, np.ndarray]:
    codes_N, names = store.languages
    live_N = np.ones(len(store), dtype=bool) if store.live_N is None else store.live_N
    rows = {name: np.flatnonzero(live_N & (codes_N == code)) for code, name in enumerate(names)}
    return {name: store.take(rows_R).mean(axis=0) for name, rows_R in rows.items() if len(rows_R)}


def _refuse_strangers(data: PretrainData, groups: list[TextGroup], known: list[str]) -> None:
    assert data.texts is not None
    found = sorted({group.language for group in groups})
    named = {*(data.languages or []), *data.language_factors}
    missing = [] if data.tokens else sorted(named - set(found))  # token shards may have what the stores lack
    if missing or not found:
        raise DataError(
            f"no texts in {', '.join(missing) or 'any language'}; the teacher's stores have {', '.join(known)}",
            where=", ".join(one.store for one in data.texts.stores),
            fix="choose among these languages, embed texts in the others, or raise data.texts.longest",
        )


def _tokenize(
    home: Path, store: EmbeddingStore, facts: dict[str, str], tokenizer: Any, max_tokens: int, prefix: str
) -> None:
    texts = ([prefix + text for text in some] for some in full_texts(store))
    build_text_rows(home, texts, made_from=facts, tokenizer=tokenizer, max_tokens=max_tokens)


def _groups_of(
    store: EmbeddingStore, tokens: Ragged, languages: list[str] | None, longest: int | None, prefix: int
) -> list[TextGroup]:
    codes_N, names = store.languages
    kept_N = np.ones(len(store), dtype=bool) if store.live_N is None else store.live_N.copy()
    if longest is not None:
        short_N = tokens.lengths_N <= longest
        skipped = int((kept_N & ~short_N).sum())
        log.info(f"{store.folder}: {skipped:,} texts of more than {longest} tokens are skipped")
        kept_N &= short_N
    wanted = names if languages is None else [name for name in names if name in languages]
    rows = {name: np.flatnonzero(kept_N & (codes_N == names.index(name))) for name in wanted}
    return [TextGroup(name, store, rows_R, tokens, prefix) for name, rows_R in rows.items() if len(rows_R)]


def _prefix(encoder: EncoderSection, name: str) -> str:
    """As the encoder will have it: given, or its folder's."""
    given = getattr(encoder, name)
    if given is not None or encoder.name is None:
        return given or ""
    return str(read_spec(model_folder(encoder.name)).get(name) or "")
