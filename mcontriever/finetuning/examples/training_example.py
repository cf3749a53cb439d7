"""A labelled query, whatever format it came in."""

from dataclasses import dataclass

from mcontriever.texts.documents import Document


@dataclass(frozen=True, slots=True)
class TrainingExample:
    """A question with the passages that answer it and passages that do not.

    `negatives` are hard ones; `random_negatives` only join the collection. The scores, if any, are a teacher's: one
    for each positive and one for each negative.
    """

    query: str
    positives: tuple[Document, ...]
    negatives: tuple[Document, ...] = ()
    id: str = ""
    language: str = ""
    positive_scores: tuple[float, ...] = ()
    negative_scores: tuple[float, ...] = ()
    random_negatives: tuple[Document, ...] = ()
