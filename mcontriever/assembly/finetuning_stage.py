"""What a configuration of stage `finetune` asks for, as ready objects: labelled queries, and the objective over them.

train.py calls `check`, `open_data`, `make_objective` and `make_batches` in this order, as it does for pre-training.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mcontriever import ranks
from mcontriever.assembly.distilled_examples import TaughtTriples, TeacherVectors, check_teacher, find_vectors
from mcontriever.assembly.distilled_texts import contrast_of, distil_objective
from mcontriever.config import FinetuneConfig
from mcontriever.disk import atomic_path
from mcontriever.errors import ConfigError, DataError
from mcontriever.finetuning.contrastive import Contrastive
from mcontriever.finetuning.distillation import Distillation
from mcontriever.finetuning.example_order import ShuffledOrder
from mcontriever.finetuning.examples.training_set import TrainingSet
from mcontriever.finetuning.passage_relation import PassageRelation
from mcontriever.finetuning.refreshed import examples_in_force
from mcontriever.finetuning.topic_batches import TopicOrder, cluster_queries
from mcontriever.finetuning.triple_objective import Loss, TripleObjective
from mcontriever.finetuning.triples import Order, TripleLoader
from mcontriever.training.agreement import on_main_rank
from mcontriever.training.checkpoints import checkpoints_of, read_state
from mcontriever.training.engine_settings import complete_settings


@dataclass(frozen=True)
class Source:
    examples: TrainingSet
    order: Order
    teacher: TeacherVectors | None


def check(config: FinetuneConfig, settings: Mapping[str, Any]) -> None:
    """What can only be wrong is said before anything is read."""
    rows = _rows_in_a_loss(settings)
    if rows < 2 and config.data.negatives == 0 and contrast_of(config) is not None:
        raise ConfigError(
            f"a batch of {rows} query over all processes and no negatives leaves nothing to contrast",
            fix="raise deepspeed.train_micro_batch_size_per_gpu, or set data.negatives to 1 or more",
        )
    data, objective = config.data, contrast_of(config)
    check_teacher(config)
    if objective is not None and objective.kind == "distillation" and (data.negatives == 0 or data.hard_ratio == 0):
        raise ConfigError(
            f"distillation compares negatives that a teacher scored, but data.negatives is {data.negatives} and "
            f"data.hard_ratio {data.hard_ratio}",
            fix="set data.negatives to 1 or more, and data.hard_ratio to 1",
        )
    if data.topics is not None and config.encoder.name is None and data.topics.model is None:
        raise ConfigError(
            "data.topics clusters queries by their embeddings, but there is no trained encoder",
            fix="name one: data.topics.model",
        )


def open_data(config: FinetuneConfig, tokenizer: Any, folder: Path) -> tuple[Source, list[str]]:
    """Examples and their order; their languages are not told apart."""
    data, seed = config.data, config.run.seed
    step = _step(folder)

    def opened() -> TrainingSet:
        return examples_in_force(data.examples.model_dump(), folder, step, data.refresh_every)

    on_main_rank(lambda: len(opened()))  # reads and indexes what the other ranks then only map
    examples = opened()
    contrast = contrast_of(config)
    needs_scores = (contrast is not None and contrast.kind == "distillation") or data.margin_bins is not None
    if needs_scores and not examples.has_scores:
        raise DataError(
            "not one negative of the examples has a teacher's score",
            where=", ".join(data.examples.paths),
            fix="mine with a cross_encoder, or name the field that holds scores: data.examples.fields.score",
        )
    teacher = None if data.teacher is None else find_vectors(data.teacher, examples, folder)
    if data.topics is None:
        return Source(examples, ShuffledOrder(len(examples), seed), teacher), []
    topics = _topics(config, examples, folder)
    settings = complete_settings(config.deepspeed, world_size=ranks.world_size(), total_steps=config.run.steps)
    return Source(examples, TopicOrder(topics, batch_size=_rows_in_a_loss(settings), seed=seed), teacher), []


def make_objective(
    config: FinetuneConfig, encoder: Any, settings: Mapping[str, Any], source: Source
) -> torch.nn.Module:
    section = contrast_of(config)
    contrast = None if section is None else _contrastive(section, encoder)
    if source.teacher is None:
        assert contrast is not None
        return contrast
    dimension, unit = source.teacher.dimension, source.teacher.unit
    return distil_objective(config.objective, encoder, contrast, dimension, unit, config.run.seed)


def _contrastive(objective: Any, encoder: Any) -> torch.nn.Module:
    too_long = [size for size in getattr(objective, "dimensions", []) if size >= encoder.dimension]
    if too_long:
        raise ConfigError(
            f"objective.dimensions has {too_long[0]}, the encoder {encoder.dimension} in all",
            fix=f"give dimensions below {encoder.dimension}; the whole is always trained",
        )
    return TripleObjective(
        encoder=encoder, loss=_loss(objective, encoder), rows_per_sub_batch=objective.rows_per_sub_batch
    )


def make_batches(config: FinetuneConfig, source: Source, encoder: Any) -> Callable[[np.ndarray], Any]:
    data = config.data
    loader = TripleLoader.for_encoder(
        encoder,
        examples=source.examples,
        order=source.order,
        negatives=data.negatives,
        hard_ratio=data.hard_ratio,
        margin_bins=data.margin_bins,
        query_length=data.query_length,
        passage_length=data.passage_length,
        seed=config.run.seed,
    )
    if source.teacher is None:
        return loader.batch
    return TaughtTriples(loader, source.teacher, has_contrast=contrast_of(config) is not None).batch


def _loss(objective: Any, encoder: Any) -> Loss:
    if objective.kind == "contrastive":
        return Contrastive(
            temperature=objective.temperature,
            normalized=encoder.normalize,
            false_negative_margin=objective.false_negative_margin,
            dimensions=tuple(objective.dimensions),
        )
    if objective.kind == "passage_relation":
        values = objective.model_dump(include={"temperature", "alpha", "false_negative_margin"})
        return PassageRelation(**values)
    values = objective.model_dump(include={"temperature", "teacher_temperature", "contrastive_weight"})
    return Distillation(kind=objective.loss, **values)


def _rows_in_a_loss(settings: Mapping[str, Any]) -> int:
    """Queries that meet each other: one micro step of all ranks."""
    return int(settings["train_batch_size"] // settings["gradient_accumulation_steps"])


def _step(folder: Path) -> int:
    checkpoints = checkpoints_of(folder)
    return int(read_state(checkpoints[-1])["step"]) if checkpoints else 0


def _topics(config: FinetuneConfig, examples: TrainingSet, folder: Path) -> np.ndarray:
    """Clustered once by rank 0, and kept in the run's folder, so that a resumed run has the same batches."""
    assert config.data.topics is not None
    section, file = config.data.topics, folder / f"topics-{examples.fingerprint}.npy"

    def cluster() -> None:
        if file.exists():
            return
        from mcontriever.encoder import Encoder

        encoder = Encoder.load(str(section.model or config.encoder.name))
        if torch.cuda.is_available():
            encoder = encoder.to("cuda")
        clusters = min(section.clusters, len(examples))
        queries_EH = encoder.embed_queries([query.text for query in examples.queries.documents(examples.query_rows_E)])
        topics_E = cluster_queries(queries_EH, clusters=clusters, seed=config.run.seed)
        with atomic_path(file) as temporary, open(temporary, "wb") as stream:
            np.save(stream, topics_E)

    on_main_rank(cluster)
    return np.load(file)
