"""A teacher's stores, opened and checked: they must be of one teacher, whole, and with texts."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from mcontriever.errors import StoreError
from mcontriever.retrieval.store.embedding_store import EmbeddingStore

TEXTS_AT_ONCE = 4096


def open_teacher_stores(paths: Sequence[str]) -> list[EmbeddingStore]:
    stores = [EmbeddingStore.open(path) for path in paths]
    for store in stores:
        _check(store)
        _check_same_teacher(stores[0], store)
    return stores


def full_texts(store: EmbeddingStore) -> Iterator[list[str]]:
    """The texts of all rows in order, some at a time, as the teacher embedded them without its prefix."""
    for titles, texts in store.text_batches(TEXTS_AT_ONCE):
        yield [f"{title} {text}".strip() for title, text in zip(titles, texts, strict=True)]


def made_from(store: EmbeddingStore) -> dict[str, str]:
    """What tells that a store is the one a run began with."""
    return {"store": str(Path(store.folder).resolve()), "content": store.manifest.live_fingerprint()}


def scores_by_cosine(store: EmbeddingStore) -> bool:
    assert store.encoder is not None
    return bool(store.encoder.spec["normalize"]) or store.encoder.spec["similarity"] == "cosine"


def _check(store: EmbeddingStore) -> None:
    again = "embed the corpus again with a model and its texts: mcontriever embed CORPUS --model TEACHER"
    if store.encoder is None:
        raise StoreError("a teacher's store needs vectors, this one was made with bm25", where=store.folder, fix=again)
    if not store.manifest.layout.keeps_text:
        raise StoreError(
            "a teacher's store needs its texts, this one was made with --no-text", where=store.folder, fix=again
        )
    if not store.manifest.documents:
        raise StoreError("the teacher's store is empty", where=store.folder, fix=again)


def _check_same_teacher(first: EmbeddingStore, other: EmbeddingStore) -> None:
    """Stores of queries and of documents differ in the prefix only, and so in the fingerprint."""
    assert first.encoder is not None
    assert other.encoder is not None
    ours, theirs = ({**one.spec, "document_prefix": None, "model": one.model} for one in (first.encoder, other.encoder))
    same_spec = first.encoder.spec == other.encoder.spec
    if ours != theirs or (same_spec and first.encoder.fingerprint != other.encoder.fingerprint):
        raise StoreError(
            f"two teachers: {first.folder} was made by {first.encoder.model} "
            f"({first.encoder.fingerprint[:12]}), this store by {other.encoder.model} "
            f"({other.encoder.fingerprint[:12]})",
            where=other.folder,
            fix="embed all texts with one teacher",
        )
