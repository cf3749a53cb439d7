"""How hybrid search weighs an encoder's scores against shared words: the default, or what a model says of its own.

What a score is worth depends on the model: high scores of unrelated documents are commoner with a bag of subwords than
with a transformer. Measures of a store did not tell the two apart, so a model's folder may carry a rule that was chosen
with questions (benchmarks/quality/choose_evidence_rule.py), and a store keeps that of the model that embedded it,
or the default of its time.
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field


@dataclass(frozen=True)
class EvidenceRule:
    """`words` is what a document that shares all of a query's words gains, in nats.

    Of that, `best` times the share of the best document in its language is subtracted. A score of z deviations counts
    z * |z| / 2, a normal tail, up to z = `slope`, and from there on `slope` more for each deviation: the tail of
    exp(-slope * z). None: normal all the way.
    """

    words: Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)] = 36.0
    best: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.25
    slope: Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)] | None = None

    def of_scores(self, z: np.ndarray) -> np.ndarray:
        """Evidence of scores in deviations, in nats."""
        size = np.abs(z)
        normal = size if self.slope is None else np.minimum(size, self.slope)
        found: np.ndarray = np.sign(z) * normal * (size - normal / 2)
        return found

    def of_words(self, shares: np.ndarray, best_shares: np.ndarray) -> np.ndarray:
        """`best_shares`: of the best document in each one's language."""
        found: np.ndarray = self.words * (shares - self.best * best_shares)
        return found


DEFAULT_RULE = EvidenceRule()
OLDER_RULE = EvidenceRule(words=56.0)  # of stores that keep none: they were made when this was the default
