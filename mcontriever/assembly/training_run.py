"""The parts of a training run that its configuration asks for, whatever the stage. train.py calls them in order."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mcontriever import ranks
from mcontriever.assembly.finetuning_stage import FinetuningStage
from mcontriever.assembly.pretraining_stage import PretrainingStage
from mcontriever.assembly.stage import OpenedStage, Stage
from mcontriever.assembly.trained_encoder import check_two_encoders
from mcontriever.assembly.training_config import FinetuneConfig, PretrainConfig, TrainConfig
from mcontriever.config import EvaluationSection, Section, dump_config
from mcontriever.encoder import Encoder
from mcontriever.errors import ConfigError, ModelError
from mcontriever.evaluation.dev_sets import METRICS, DevSet, score_dev_sets
from mcontriever.pretraining.collapse import collapse_advice
from mcontriever.tokens import load_tokenizer
from mcontriever.training import metrics_log
from mcontriever.training.agreement import on_main_rank
from mcontriever.training.asam import Asam
from mcontriever.training.checkpoints import MODEL, STATE, newest_checkpoint, read_state
from mcontriever.training.data_order import DataOrder
from mcontriever.training.engine import WholeEncoder
from mcontriever.training.engine_settings import rows_in_a_loss, zero_stage
from mcontriever.training.learner import Learner
from mcontriever.training.loop import BatchSource, Evaluation
from mcontriever.training.metrics_log import MetricsLog, read_log
from mcontriever.training.model_card import model_card
from mcontriever.training.run_checkpoints import RunCheckpoints
from mcontriever.training.run_folder import flat
from mcontriever.training.run_report import RunReport
from mcontriever.training.run_state import RunState
from mcontriever.training.schedule import Schedule


def stage_of(config: TrainConfig, settings: Mapping[str, Any]) -> Stage:
    """The stage, after it has refused what cannot work."""
    if config.run.asam is not None and zero_stage(settings) > 1:
        raise ConfigError(
            f"run.asam needs whole weights on each process, ZeRO-{zero_stage(settings)} divides them",
            fix="set deepspeed.zero_optimization.stage to 0 or 1, or omit run.asam",
        )
    if config.encoder.own_query_encoder:
        check_two_encoders(config)
    stage: Stage = (
        PretrainingStage(config, settings) if isinstance(config, PretrainConfig) else FinetuningStage(config, settings)
    )
    stage.check()
    return stage


@dataclass(frozen=True)
class Start:
    """Where this start of the run begins: at its newest checkpoint, or with nothing."""

    checkpoint: Path | None
    state: RunState

    @classmethod
    def find(cls, config: TrainConfig, settings: Mapping[str, Any], folder: Path) -> "Start":
        checkpoint = newest_checkpoint(folder)
        if checkpoint is None:
            return cls(None, RunState())
        values = read_state(checkpoint)
        for name in ("encoder", "objective"):
            section = getattr(config, name)
            if not _same_settings(values.get(name), section):
                raise ModelError(
                    f"the checkpoint is of another model: its {name} is {values.get(name)}, this run's is "
                    f"{section.model_dump(mode='json')}",
                    where=checkpoint,
                    fix="remove the folder if it was copied here, or set run.output to a new folder",
                )
        _check_same_batch(values, run_facts(config, settings), checkpoint)
        return cls(checkpoint, RunState.from_json(values, checkpoint / STATE))

    def tokenizer(self, config: TrainConfig) -> Any:
        section = config.encoder
        home = section.name or section.tokenizer if self.checkpoint is None else self.checkpoint / MODEL
        return load_tokenizer(str(home))


def _same_settings(stored: Any, section: Section) -> bool:
    """A setting that a version did not have yet counts as left at its default."""
    ours, chosen = section.model_dump(mode="json"), section.model_dump(mode="json", exclude_defaults=True)
    keys = {*ours, *(stored or {})} - {"rows_per_sub_batch"}
    return stored is not None and all(
        stored[key] == ours.get(key) if key in stored else key not in chosen for key in keys
    )


def _check_same_batch(stored: Mapping[str, Any], ours: Mapping[str, Any], checkpoint: Path) -> None:
    """Another division of a batch changes nothing, another batch does. Old checkpoints have only their samples."""
    batch = stored.get("batch") or stored["samples"] // max(stored["step"], 1)
    together = stored.get("samples_in_a_loss", ours["samples_in_a_loss"])
    fix = f"set deepspeed.train_batch_size to {batch} and omit the rows per GPU, or set run.output to a new folder"
    if stored["step"] and batch != ours["batch"]:
        raise ConfigError(
            f"the run has {batch} samples in an update, on {ranks.world_size()} process(es) it would have "
            f"{ours['batch']}",
            where=checkpoint,
            fix=fix,
        )
    if together != ours["samples_in_a_loss"]:
        raise ConfigError(
            f"in this run {together} samples meet in a loss, with this division of the batch it would be "
            f"{ours['samples_in_a_loss']}",
            where=checkpoint,
            fix=fix,
        )


def run_facts(config: TrainConfig, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What must be the same in every start of a run."""
    return {
        "encoder": config.encoder.model_dump(mode="json"),
        "objective": config.objective.model_dump(mode="json"),
        "batch": settings["train_batch_size"],
        "samples_in_a_loss": rows_in_a_loss(settings) if config.objective.contrasts_within_batch else None,
    }


def open_dev_sets(section: EvaluationSection) -> list[DevSet]:
    sets = [DevSet.load(path, section.split) for path in section.sets]
    names = [dev_set.name for dev_set in sets]
    valid = [f"{name}/{metric}" for name in ["mean", *names] for metric in METRICS]
    if sets and section.metric not in valid:
        raise ConfigError(f"evaluation.metric is {section.metric!r}", fix=f"choose one of {', '.join(valid)}")
    if len(set(names)) < len(names) or "mean" in names:
        raise ConfigError(f"evaluation.sets have the names {', '.join(names)}", fix="give each folder its own name")
    return sets


def dev_evaluation(section: EvaluationSection, dev_sets: list[DevSet]) -> Evaluation | None:
    return Evaluation(lambda encoder: score_dev_sets(encoder, dev_sets), section.metric) if dev_sets else None


def make_learner(config: TrainConfig, engine: Any, device: torch.device) -> Learner:
    asam = None if config.run.asam is None else Asam(engine.module, **config.run.asam.model_dump())
    return Learner(engine, device, seed=config.run.seed, asam=asam)


def batch_source(opened: OpenedStage, encoder: Encoder, settings: Mapping[str, Any]) -> BatchSource:
    rows, micro_steps = settings["train_micro_batch_size_per_gpu"], settings["gradient_accumulation_steps"]
    order = DataOrder(ranks.rank(), ranks.world_size(), rows, micro_steps)
    return BatchSource(order, opened.batches(encoder), opened.languages)


def schedule_of(config: TrainConfig, step: int) -> Schedule:
    """This start ends at the last step, at run.stop_at, or where new negatives are due."""
    run, stop_at = config.run, config.run.stop_at or config.run.steps
    if isinstance(config, FinetuneConfig) and config.data.refresh_every is not None:
        stop_at = min(stop_at, (step // config.data.refresh_every + 1) * config.data.refresh_every)
    evaluation = config.evaluation
    return Schedule(run.steps, stop_at, run.log_every, run.save_every, evaluation.every, evaluation.patience)


def open_report(config: TrainConfig, folder: Path, step: int, device: torch.device) -> RunReport:
    log = None
    if ranks.is_main():
        log = MetricsLog(
            folder,
            first_step=step if step else -1,
            total_steps=config.run.steps,
            tensorboard=config.run.tensorboard,
            wandb_project=config.run.wandb,
        )
    history = on_main_rank(lambda: read_log(folder / metrics_log.METRICS))
    return RunReport(folder, log, history=history, advice=collapse_advice, device=device)


def run_checkpoints(
    config: TrainConfig,
    settings: Mapping[str, Any],
    folder: Path,
    opened: OpenedStage,
    engine: Any,
    whole_encoder: WholeEncoder,
) -> RunCheckpoints:
    describe = partial(_describe, config, folder, opened.languages, engine.module.encoder.spec())
    facts = run_facts(config, settings)
    return RunCheckpoints(folder, engine, whole_encoder, describe, facts, config.run.keep_last)


def _describe(
    config: TrainConfig, folder: Path, languages: list[str], spec: Mapping[str, Any], state: RunState
) -> tuple[str, dict[str, bytes]]:
    """The model card at this step, and the configuration to store beside it."""
    text = dump_config(config)
    values = config.data.model_dump(mode="json", exclude={"languages"}, exclude_none=True, exclude_defaults=True)
    data = {"languages": languages, **flat(values)}
    card = model_card(
        name=folder.resolve().name,
        spec=spec,
        data=data,
        config_text=text,
        run=folder,
        step=state.step,
        samples=state.samples,
    )
    return card, {"training.yaml": text.encode()}
