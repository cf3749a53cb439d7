"""Re-ranking: a cross-encoder reads query and passage together and reorders the best documents."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mcontriever.disk import read_json
from mcontriever.errors import ModelError
from mcontriever.hub import model_folder
from mcontriever.retrieval.fusion import Ranking


class Reranker:
    """Any sentence-transformers CrossEncoder with one score per pair."""

    def __init__(self, model: Any) -> None:
        self.model = model

    @classmethod
    def load(cls, name: str, device: str | None = None) -> "Reranker":
        from sentence_transformers import CrossEncoder

        folder = model_folder(name)  # which asks once whether the hub can be reached
        if not _has_trained_head(folder):
            raise ModelError(
                "the model has no head trained to score pairs; its scores would be random",
                where=name,
                fix="give a cross-encoder (XForSequenceClassification), or train one on a relevance task first",
            )
        try:
            model = CrossEncoder(str(folder), device=device)
        except (OSError, ValueError) as error:
            fix = "give the folder or hub name of a sentence-transformers CrossEncoder"
            raise ModelError(f"the re-ranker cannot be loaded: {error}", where=name, fix=fix) from error
        if model.num_labels != 1:
            raise ModelError(
                f"the re-ranker gives {model.num_labels} scores for a pair, one is needed",
                where=name,
                fix="give a cross-encoder trained for relevance",
            )
        return cls(model)

    def rerank(self, query: str, ranking: Ranking, passages: Sequence[str]) -> list[tuple[int, float]]:
        """`passages` are those of the first documents, which are reordered; of equal scores the first one given.

        The others follow in their order, each with a score of 1 less than the one before.
        """
        scores = self.scores([(query, passage) for passage in passages])
        documents = [document for document, _ in ranking]
        best = sorted(zip(documents, scores, strict=False), key=lambda item: -item[1])
        lowest = min(scores, default=0.0)
        return best + [(document, lowest - n) for n, document in enumerate(documents[len(scores) :], start=1)]

    def scores(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """One score for each (query, passage)."""
        return self._predict(pairs)

    def logits(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Before any activation, which models set differently: a sigmoid makes probabilities of them."""
        import torch

        return self._predict(pairs, activation_fn=torch.nn.Identity())

    def _predict(self, pairs: Sequence[tuple[str, str]], **settings: Any) -> list[float]:
        if not pairs:
            return []
        return [float(score) for score in self.model.predict(list(pairs), show_progress_bar=False, **settings)]


def _has_trained_head(folder: Path) -> bool:
    """A classifier, or what sentence-transformers saved as a cross-encoder; any other backbone gets a random head."""
    saved_by, config = folder / "config_sentence_transformers.json", folder / "config.json"
    if saved_by.is_file() and read_json(saved_by).get("model_type") == "CrossEncoder":
        return True
    names = read_json(config).get("architectures") if config.is_file() else None
    return any(str(name).endswith("ForSequenceClassification") for name in names or [])
