"""The stage `finetune`: labelled queries with their passages, and a loss over them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mcontriever.assembly.distilled_examples import TaughtTriples, TeacherVectors, check_teacher, find_vectors
from mcontriever.assembly.objectives import FinetuningDistil
from mcontriever.assembly.training_config import FinetuneConfig
from mcontriever.disk import atomic_path
from mcontriever.encoder import Encoder
from mcontriever.errors import ConfigError, DataError
from mcontriever.finetuning.example_order import ShuffledOrder
from mcontriever.finetuning.examples.training_set import TrainingSet
from mcontriever.finetuning.late_interaction import LateInteraction
from mcontriever.finetuning.refreshed import examples_in_force
from mcontriever.finetuning.topic_batches import TopicOrder, cluster_queries
from mcontriever.finetuning.triples import Order, TripleLoader
from mcontriever.npy_files import read_array
from mcontriever.training.agreement import on_main_rank
from mcontriever.training.checkpoints import step_of
from mcontriever.training.engine_settings import rows_in_a_loss


@dataclass(frozen=True)
class FinetuningStage:
    config: FinetuneConfig
    settings: Mapping[str, Any]

    def check(self) -> None:
        data, contrast = self.config.data, self.config.contrast
        check_teacher(self.config)
        rows = rows_in_a_loss(self.settings)
        if rows < 2 and data.negatives == 0 and contrast is not None:
            raise ConfigError(
                f"a batch of {rows} query over all processes and no negatives leaves nothing to contrast",
                fix="raise deepspeed.train_micro_batch_size_per_gpu, or set data.negatives to 1 or more",
            )
        if contrast is not None and contrast.needs_scores and (data.negatives == 0 or data.hard_ratio == 0):
            raise ConfigError(
                f"{contrast.kind} compares negatives that a teacher scored, but data.negatives is {data.negatives} "
                f"and data.hard_ratio {data.hard_ratio}",
                fix="set data.negatives to 1 or more, and data.hard_ratio to 1",
            )
        if isinstance(contrast, LateInteraction) and self.config.encoder.name is None:
            fix = "train one vector for a text first, and give that model as encoder.name"
            raise ConfigError("late interaction starts from a model by name, not from random weights", fix=fix)
        if isinstance(contrast, LateInteraction) and self.config.evaluation.sets:
            raise ConfigError(
                "evaluation.sets are scored with one vector for a text, and late interaction has one for each token",
                fix="omit evaluation, and score the trained model with mcontriever benchmark",
            )
        if data.topics is not None and self.config.encoder.name is None and data.topics.model is None:
            raise ConfigError(
                "data.topics clusters queries by their embeddings, but there is no trained encoder",
                fix="name one: data.topics.model",
            )

    def open(self, tokenizer: Any, folder: Path) -> "OpenedFinetuning":
        data = self.config.data
        step = step_of(folder)

        def opened() -> TrainingSet:
            return examples_in_force(data.examples.model_dump(), folder, step, data.refresh_every)

        on_main_rank(lambda: len(opened()))  # reads and indexes what the other ranks then only map
        examples = opened()
        contrast = self.config.contrast
        needs_scores = data.margin_bins is not None or (contrast is not None and contrast.needs_scores)
        if needs_scores and not examples.has_scores:
            raise DataError(
                "no negative of the examples has a teacher's score",
                where=", ".join(data.examples.paths),
                fix="mine with a cross_encoder, or name the field that holds scores: data.examples.fields.score",
            )
        teacher = None if data.teacher is None else find_vectors(data.teacher, examples, folder)
        return OpenedFinetuning(self.config, examples, self._order(examples, folder), teacher)

    def _order(self, examples: TrainingSet, folder: Path) -> Order:
        seed = self.config.run.seed
        if self.config.data.topics is None:
            return ShuffledOrder(len(examples), seed, self.config.data.max_examples)
        topics = _topics(self.config, examples, folder)
        return TopicOrder(topics, batch_size=rows_in_a_loss(self.settings), seed=seed)


@dataclass(frozen=True)
class OpenedFinetuning:
    config: FinetuneConfig
    examples: TrainingSet
    order: Order
    teacher: TeacherVectors | None

    @property
    def languages(self) -> list[str]:
        """The languages of examples are not distinguished."""
        return []

    def objective(self, encoder: Encoder) -> torch.nn.Module:
        loss = self.config.contrast
        contrast = None if loss is None else loss.objective(encoder)
        if isinstance(self.config.objective, FinetuningDistil):
            assert self.teacher is not None
            dimension, unit, seed = self.teacher.dimension, self.teacher.unit, self.config.run.seed
            return self.config.objective.objective(encoder, contrast, dimension, unit=unit, seed=seed)
        assert contrast is not None
        return contrast

    def batches(self, encoder: Encoder) -> Callable[[np.ndarray], Any]:
        data = self.config.data
        loader = TripleLoader.for_encoder(
            encoder,
            examples=self.examples,
            order=self.order,
            negatives=data.negatives,
            hard_ratio=data.hard_ratio,
            margin_bins=data.margin_bins,
            query_length=data.query_length,
            passage_length=data.passage_length,
            seed=self.config.run.seed,
        )
        if self.teacher is None:
            return loader.batch
        return TaughtTriples(loader, self.teacher, has_contrast=self.config.contrast is not None).batch


def _topics(config: FinetuneConfig, examples: TrainingSet, folder: Path) -> np.ndarray:
    """Clustered once by rank 0 and kept in the run's folder, so that a resumed run has the same batches."""
    assert config.data.topics is not None
    section, file = config.data.topics, folder / f"topics-{examples.fingerprint}.npy"

    def cluster() -> None:
        if file.exists():
            return
        encoder = Encoder.load(str(section.model or config.encoder.name))
        if torch.cuda.is_available():
            encoder = encoder.to("cuda")
        clusters = min(section.clusters, len(examples))
        queries_EH = encoder.embed_queries([query.text for query in examples.queries.documents(examples.query_rows_E)])
        topics_E = cluster_queries(queries_EH, clusters=clusters, seed=config.run.seed)
        with atomic_path(file) as temporary, open(temporary, "wb") as stream:
            np.save(stream, topics_E)

    on_main_rank(cluster)
    return read_array(file)
