"""Train a retriever: `deepspeed mcontriever/train.py --config FILE`, or `mcontriever train` for a single process.

    deepspeed --num_gpus 2 mcontriever/train.py --config configs/pretrain/tiny_cpu.yaml --set run.steps=100

The same command goes on with a run that was stopped or killed. What it does, in order: check everything that can be
checked without a model; build the encoder and its objective; give them to DeepSpeed; go back to where the run was;
loop.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    # The launcher puts this file's folder first on the path, where our names would stand in for other libraries'.
    _folder = Path(__file__).resolve().parent
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != _folder]

from collections.abc import Mapping
from typing import Any

from mcontriever.config import TrainConfig
from mcontriever.errors import ConfigError, UserError
from mcontriever.progress import log


def run(config: TrainConfig) -> None:
    """Train until done, stopped, or refused."""
    try:
        from transformers.utils.logging import disable_progress_bar

        from mcontriever.cpu_operators import keep_freed_memory
        from mcontriever.training.process_group import join_process_group
        from mcontriever.training.stop_request import StopRequest

        disable_progress_bar()
        keep_freed_memory()
        device = join_process_group()
        with StopRequest() as stop:
            train(config, device, stop)
    except RuntimeError as error:
        if "Connection closed by peer" not in str(error):
            raise
        raise UserError("this rank stopped because another one did", fix="see the other rank's message") from error


def train(config: TrainConfig, device: Any, stop: Any) -> None:
    from mcontriever import ranks
    from mcontriever.assembly import training_run as training_parts
    from mcontriever.training import checkpoints, run_folder
    from mcontriever.training.agreement import together
    from mcontriever.training.engine import WholeEncoder, start_engine, stop_engine
    from mcontriever.training.engine_settings import complete_settings

    settings = complete_settings(config.deepspeed, world_size=ranks.world_size(), total_steps=config.run.steps)
    parts = parts_of(config.stage)
    parts.check(config, settings)
    check_asam(config, settings)
    with run_folder.open_run_folder(Path(config.run.output), config.model_dump(mode="json")) as folder:
        finished = run_folder.finished_facts(folder, config.run.steps)
        if finished is not None:
            log.info(f"this run has ended ({finished['reason']} at step {finished['step']:,}): {folder / 'model'}")
            return
        dev_sets = together(lambda: training_parts.open_dev_sets(config))
        checkpoint = next(reversed(checkpoints.checkpoints_of(folder)), None)
        state = together(lambda: training_parts.starting_state(config, checkpoint))
        tokenizer = together(lambda: training_parts.open_tokenizer(config, checkpoint))
        data = together(lambda: parts.open_data(config, tokenizer, folder))
        encoder = together(lambda: training_parts.open_encoder(config, tokenizer, checkpoint))
        objective = together(lambda: parts.make_objective(config, encoder, settings, data[0]))
        if checkpoint is not None:
            together(lambda: checkpoints.load_other_weights(checkpoint, objective))
        whole_encoder = WholeEncoder(encoder, settings)
        engine = start_engine(objective, settings)
        if checkpoint is not None:
            same_ranks = checkpoints.restore_engine(checkpoint, engine)
            log.info(f"going on from {checkpoint}" + ("" if same_ranks else ", with other ranks or another ZeRO stage"))
        source, languages = data
        loop = make_loop(
            config,
            settings,
            folder,
            engine=engine,
            whole_encoder=whole_encoder,
            make_batch=parts.make_batches(config, source, encoder),
            languages=languages,
            dev_sets=dev_sets,
            state=state,
            device=device,
            stop=stop,
        )
        outcome = loop.run()
        stop_engine(engine)
        conclude(folder, state, outcome)


def check_asam(config: TrainConfig, settings: Mapping[str, Any]) -> None:
    from mcontriever.training.engine_settings import zero_stage

    if config.run.asam is None:
        return
    if zero_stage(settings) > 1:
        raise ConfigError(
            f"run.asam moves whole weights, ZeRO-{zero_stage(settings)} cuts them up",
            fix="set deepspeed.zero_optimization.stage to 0 or 1, or leave run.asam out",
        )
    if hasattr(config.objective, "queue_size"):
        raise ConfigError(
            f"run.asam takes two forwards a step, and the objective {config.objective.kind} would queue its keys twice",
            fix="leave run.asam out, or choose another objective",
        )


def parts_of(stage: str) -> Any:
    """The file that turns a configuration of this stage into data and objective."""
    if stage == "pretrain":
        from mcontriever.assembly import pretraining_stage as pretraining_parts

        return pretraining_parts
    from mcontriever.assembly import finetuning_stage as finetuning_parts

    return finetuning_parts


def make_loop(
    config: TrainConfig,
    settings: Mapping[str, Any],
    folder: Path,
    *,
    dev_sets: list[Any],
    languages: list[str],
    **ready: Any,
) -> Any:
    """`ready` are the objects that the loop takes as they are."""
    from mcontriever import ranks
    from mcontriever.assembly import training_run as training_parts
    from mcontriever.evaluation.dev_sets import score_dev_sets
    from mcontriever.pretraining.collapse import collapse_advice
    from mcontriever.training.agreement import on_main_rank
    from mcontriever.training.asam import Asam
    from mcontriever.training.data_order import DataOrder
    from mcontriever.training.loop import TrainingLoop
    from mcontriever.training.metrics_log import METRICS, MetricsLog, read_log

    run, state = config.run, ready["state"]
    rows, micro_steps = settings["train_micro_batch_size_per_gpu"], settings["gradient_accumulation_steps"]
    spec = ready["engine"].module.encoder.spec()
    log_file = None
    if ranks.is_main():
        log_file = MetricsLog(
            folder,
            first_step=state.step if state.step else -1,
            total_steps=run.steps,
            tensorboard=run.tensorboard,
            wandb_project=run.wandb,
        )
    return TrainingLoop(
        run=folder,
        order=DataOrder(ranks.rank(), ranks.world_size(), rows, micro_steps),
        log=log_file,
        advice=collapse_advice,
        history=on_main_rank(lambda: read_log(folder / METRICS)),
        languages=languages,
        score=(lambda current: score_dev_sets(current, dev_sets)) if dev_sets else None,
        describe=lambda now: training_parts.describe(config, folder, languages, spec, now),
        facts=training_parts.model_facts(config),
        asam=None if run.asam is None else Asam(ready["engine"].module, **run.asam.model_dump()),
        total_steps=run.steps,
        stop_at=next_stop(config, state.step),
        seed=run.seed,
        log_every=run.log_every,
        save_every=run.save_every,
        keep_last=run.keep_last,
        evaluate_every=config.evaluation.every,
        metric=config.evaluation.metric,
        patience=config.evaluation.patience,
        **ready,
    )


def next_stop(config: TrainConfig, step: int) -> int:
    """Where this start ends: at the last step, at run.stop_at, or where fresh negatives are due."""
    stop_at = config.run.stop_at or config.run.steps
    refresh_every = getattr(config.data, "refresh_every", None)
    return stop_at if refresh_every is None else min(stop_at, (step // refresh_every + 1) * refresh_every)


def conclude(folder: Path, state: Any, outcome: str) -> None:
    """Export the model and mark the run, unless it was only interrupted."""
    from mcontriever import ranks
    from mcontriever.training.checkpoints import checkpoints_of
    from mcontriever.training.exported_model import copy_model
    from mcontriever.training.loop import FINISHED, STOPPED
    from mcontriever.training.run_folder import mark_finished

    if outcome == STOPPED:
        log.info(f"stopped at step {state.step:,}; the same command goes on from there")
    elif ranks.is_main():
        copy_model(checkpoints_of(folder)[-1], folder / "model")
        early = outcome != FINISHED
        reason = "no better dev score for a while" if early else "all steps are done"
        mark_finished(
            folder, {"step": state.step, "stopped_early": early, "reason": reason, "best_step": state.best_step}
        )
        log.info(f"{reason}: the model is in {folder / 'model'}")
    ranks.barrier()


if __name__ == "__main__":
    from mcontriever.cli import main

    main(["train", *sys.argv[1:]])
