"""All objectives: a new one is a file of its own, with its settings, and one line here.

The key `objective.kind` chooses among them. An objective's file shows what it needs: finetuning/contrastive.py for a
loss over labelled queries, pretraining/inbatch.py for an objective over pairs of crops.
"""

from typing import Annotated

import pydantic

from mcontriever.distillation.distil import DistilSettings
from mcontriever.finetuning.contrastive import Contrastive
from mcontriever.finetuning.distillation import Distillation
from mcontriever.finetuning.late_interaction import LateInteraction
from mcontriever.finetuning.passage_relation import PassageRelation
from mcontriever.pretraining.inbatch import InBatchSettings
from mcontriever.pretraining.moco import MocoSettings
from mcontriever.pretraining.relevance import RelevanceSettings

_BY_KIND = pydantic.Field(discriminator="kind")

PretrainingContrast = Annotated[
    MocoSettings
    | RelevanceSettings
    | InBatchSettings,
    _BY_KIND,
]  # fmt: skip

FinetuningLoss = Annotated[
    Contrastive
    | PassageRelation
    | Distillation,
    _BY_KIND,
]  # fmt: skip


FinetuningContrast = Annotated[
    FinetuningLoss
    | LateInteraction,
    _BY_KIND,
]  # fmt: skip


class PretrainingDistil(DistilSettings):
    """`contrast` works on crops: of data.tokens if they are given, else of the teacher's texts."""

    contrast: PretrainingContrast | None = None


class FinetuningDistil(DistilSettings):
    """`contrast` works on the same queries and passages."""

    contrast: FinetuningLoss | None = None


PretrainingObjective = Annotated[PretrainingContrast | PretrainingDistil, _BY_KIND]
FinetuningObjective = Annotated[FinetuningContrast | FinetuningDistil, _BY_KIND]
