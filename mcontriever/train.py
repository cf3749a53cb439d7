"""Train a retriever: `deepspeed mcontriever/train.py --config FILE`, or `mcontriever train` for a single process.

    deepspeed --num_gpus 2 mcontriever/train.py --config configs/pretrain/tiny_cpu.yaml --set run.steps=100

The same command resumes a run that was stopped or killed. `train` is the order of events: check what can be checked
without a model, open data and encoder, start DeepSpeed, restore the newest checkpoint, loop, export.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    # The launcher puts this file's folder first on the path, where our names would hide other libraries'.
    _folder = Path(__file__).resolve().parent
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != _folder]

import torch

from mcontriever import ranks
from mcontriever.assembly import training_run
from mcontriever.assembly.divided_batch import divide_batch
from mcontriever.assembly.trained_encoder import open_encoder
from mcontriever.assembly.training_config import TrainConfig
from mcontriever.freed_memory import keep_freed_memory
from mcontriever.progress import log
from mcontriever.prompt_end import time_to_save
from mcontriever.training.agreement import on_main_rank, together
from mcontriever.training.checkpoints import checkpoints_of, load_other_weights, restore_engine
from mcontriever.training.device_memory import memory_per_process
from mcontriever.training.engine import WholeEncoder, start_engine, stop_engine
from mcontriever.training.exported_model import copy_model
from mcontriever.training.loop import FINISHED, STOPPED, TrainingLoop
from mcontriever.training.peers import Peers
from mcontriever.training.process_group import join_process_group
from mcontriever.training.run_folder import finished_facts, mark_finished, open_run_folder
from mcontriever.training.run_state import RunState
from mcontriever.training.stop_request import StopRequest


def run(config: TrainConfig) -> None:
    """Train until done, stopped, or refused."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    keep_freed_memory()
    device = join_process_group()
    peers = Peers.meet()
    try:
        train(config, device)
    except RuntimeError as error:
        peers.explain(error)
        raise


def train(config: TrainConfig, device: torch.device) -> None:
    stop, memory = StopRequest(), memory_per_process(device)
    divided, settings = on_main_rank(lambda: divide_batch(config, ranks.world_size(), memory))
    stage = training_run.stage_of(divided, settings)
    chosen = config.model_dump(mode="json", exclude_defaults=True)
    with open_run_folder(Path(config.run.output), config.model_dump(mode="json"), chosen) as folder:
        finished = finished_facts(folder, config.run.steps)
        if finished is not None:
            log.info(f"this run has ended ({finished['reason']} at step {finished['step']:,}): {folder / 'model'}")
            return
        dev_sets = together(lambda: training_run.open_dev_sets(config.evaluation))
        start = together(lambda: training_run.Start.find(config, settings, folder))
        tokenizer = together(lambda: start.tokenizer(config))
        opened = together(lambda: stage.open(tokenizer, folder))
        encoder = together(lambda: open_encoder(config, tokenizer, start.checkpoint))
        objective = together(lambda: opened.objective(encoder))
        together(lambda: load_other_weights(start.checkpoint, objective))
        whole_encoder = WholeEncoder(encoder, settings)
        engine = start_engine(objective, settings)
        restore_engine(start.checkpoint, engine)
        loop = TrainingLoop(
            learner=training_run.make_learner(config, engine, device),
            source=training_run.batch_source(opened, encoder, settings),
            state=start.state,
            schedule=training_run.schedule_of(config, start.state.step),
            report=training_run.open_report(config, folder, start.state.step, device),
            checkpoints=training_run.run_checkpoints(config, settings, folder, opened, engine, whole_encoder),
            evaluation=training_run.dev_evaluation(config.evaluation, dev_sets),
            stop=stop,
        )
        with stop, time_to_save():
            outcome = loop.run()
            stop_engine(engine)
            conclude(folder, start.state, outcome)


def conclude(folder: Path, state: RunState, outcome: str) -> None:
    """Export the model and mark the run as ended, unless it was only stopped."""
    if outcome == STOPPED:
        log.info(f"stopped at step {state.step:,}; the same command resumes it")
    elif ranks.is_main():
        copy_model(checkpoints_of(folder)[-1], folder / "model")
        reason = "all steps are done" if outcome == FINISHED else "no better dev score for a while"
        facts = {"step": state.step, "stopped_early": outcome != FINISHED, "reason": reason}
        mark_finished(folder, {**facts, "best_step": state.best_step})
        log.info(f"{reason}: the model is in {folder / 'model'}")
    ranks.barrier()


if __name__ == "__main__":
    from mcontriever.cli import main

    main(["train", *sys.argv[1:]])
