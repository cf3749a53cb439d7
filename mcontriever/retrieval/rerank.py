"""Re-ranking: a cross-encoder reads query and passage together and orders the best hits anew."""

from collections.abc import Sequence
from typing import Any

from mcontriever.errors import ModelError


class Reranker:
    """Any sentence-transformers CrossEncoder with one score per pair."""

    def __init__(self, model: Any) -> None:
        self.model = model

    @classmethod
    def load(cls, name: str, device: str | None = None) -> "Reranker":
        from sentence_transformers import CrossEncoder

        try:
            model = CrossEncoder(name, device=device)
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

    def scores(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """One score for each (query, passage)."""
        if not pairs:
            return []
        return [float(score) for score in self.model.predict(list(pairs), show_progress_bar=False)]

    def logits(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Before any activation, which models set differently: a sigmoid makes probabilities of them."""
        import torch

        if not pairs:
            return []
        identity = torch.nn.Identity()
        return [float(s) for s in self.model.predict(list(pairs), activation_fn=identity, show_progress_bar=False)]
