"""Several verbs one after another, from one file: `mcontriever run PLAN.yaml`, and again to resume.

A plan is a paper's recipe: train, mine with the result, train again; or train and mine alternately (ANCE). Every
stage is one of our own commands in a process of its own, so that each has the machine to itself, and resumes as it
does alone. All stages are checked before the first one starts.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from mcontriever.assembly.training_config import FinetuneConfig, TrainConfig, parse_train_config
from mcontriever.child_processes import run_command
from mcontriever.config import AlternateSection, GenerateConfig, MineConfig, PlanConfig, StageSection, parse_config
from mcontriever.disk import FolderLock, write_bytes, write_json
from mcontriever.errors import ConfigError, RunError
from mcontriever.finetuning.refreshed import round_folder
from mcontriever.output_folder import FolderKind
from mcontriever.progress import log
from mcontriever.records import read_record
from mcontriever.training.checkpoints import checkpoint_name, step_of
from mcontriever.training.deepspeed_launcher import found_launcher
from mcontriever.training.run_folder import finished_facts

DONE = "commands-done.json"
REPLACING = ("tokenizer", "export")  # verbs that refuse an output of theirs without --overwrite
PLAN = FolderKind("run of a plan", marks=(DONE, "stage-*"))


def run(plan: PlanConfig) -> None:
    """Run or resume. A stage's error ends the plan; a request to stop its training also ends it, without an error."""
    for number, stage in enumerate(plan.stages):
        check_stage(stage, f"stages.{number}")
    launcher = found_launcher(plan.launcher)
    output = Path(plan.output)
    PLAN.require_own(output)
    with FolderLock(output):
        for number, stage in enumerate(plan.stages, start=1):
            kind = next(iter(stage.model_fields_set))
            log.info(f"stage {number} of {len(plan.stages)}: {kind}")
            if not Follower(launcher, output, f"stage-{number:02}-{kind}").follow(stage):
                log.info("stopped; the same command resumes the plan")
                return
    log.info("the plan is done")


def check_stage(stage: StageSection, place: str) -> None:
    if stage.train is not None:
        _train_config(stage.train, f"{place}.train")
    if stage.mine is not None:
        parse_config(MineConfig, stage.mine, source=f"{place}.mine")
    if stage.generate is not None:
        parse_config(GenerateConfig, stage.generate, source=f"{place}.generate")
    if stage.alternate is not None:
        config = _train_config(stage.alternate.train, f"{place}.alternate.train")
        if not isinstance(config, FinetuneConfig) or config.data.refresh_every is None:
            raise ConfigError(
                "train and mine alternate, but data.refresh_every is not set",
                where=f"{place}.alternate.train",
                fix="set data.refresh_every to the steps between two minings",
            )
        parse_config(MineConfig, _round(stage.alternate, config, 0), source=f"{place}.alternate.mine")


class Follower:
    """Follows one stage; `follow` is False if its training was stopped before the end."""

    def __init__(self, launcher: Sequence[str], output: Path, name: str) -> None:
        self.launcher, self.output, self.name = list(launcher), output, name

    def follow(self, stage: StageSection) -> bool:
        if stage.train is not None:
            return self._train(stage.train)
        if stage.alternate is not None:
            return self._alternate(stage.alternate)
        if stage.command is not None:
            self._command(stage.command)
        else:
            self._verb("generate" if stage.mine is None else "mine", stage.generate or stage.mine or {})
        return True

    def _train(self, values: Mapping[str, Any]) -> bool:
        """True when the run has ended, not only this start of it."""
        config = _train_config(values, self.name)
        if _has_ended(config):
            return True
        script = [str(Path(__file__).with_name("train.py"))]
        start = [*self.launcher, *script] if self.launcher else [sys.executable, "-m", "mcontriever", "train"]
        self._start([*start, "--config", self._written(values)])
        return _has_ended(config)

    def _alternate(self, section: AlternateSection) -> bool:
        """Train to the next refresh, mine with the checkpoint written there, and so on to the end."""
        config = _train_config(section.train, self.name)
        assert isinstance(config, FinetuneConfig), "checked before the first stage"
        every = config.data.refresh_every
        assert every is not None
        folder = Path(config.run.output)
        while not _has_ended(config):
            step = step_of(folder)
            if step and step % every == 0:
                self._verb("mine", _round(section, config, step))
            if not self._train(section.train) and (step_of(folder) == step or step_of(folder) % every):
                return False
        return True

    def _verb(self, verb: str, values: Mapping[str, Any]) -> None:
        self._start([sys.executable, "-m", "mcontriever", verb, "--config", self._written(values)])

    def _command(self, arguments: Sequence[str]) -> None:
        """Done once: a command that has ended well is not started again, unless it was changed.

        A command that was killed just after its output was complete replaces this output.
        """
        done = read_record(self.output / DONE, dict[str, list[str]]) if (self.output / DONE).exists() else {}
        begun = self.output / f"{self.name}.begun.json"
        if done.get(self.name) != list(arguments):
            was_begun = begun.exists() and read_record(begun, list[str]) == list(arguments)
            write_json(begun, list(arguments))
            again = ["--overwrite"] if was_begun and arguments[0] in REPLACING else []
            self._start([sys.executable, "-m", "mcontriever", *arguments, *again])
            write_json(self.output / DONE, {**done, self.name: list(arguments)})

    def _written(self, values: Mapping[str, Any]) -> str:
        path = self.output / f"{self.name}.yaml"
        write_bytes(path, yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True).encode())
        return str(path)

    def _start(self, command: Sequence[str]) -> None:
        code = run_command(command)
        if code != 0:
            raise RunError(
                f"{self.name} ended with exit code {code}",
                where=" ".join(command),
                fix="correct what its own message above says, then start the plan again",
            )


def _train_config(values: Mapping[str, Any], place: str) -> TrainConfig:
    return parse_train_config(dict(values), source=place)


def _has_ended(config: TrainConfig) -> bool:
    return finished_facts(Path(config.run.output), config.run.steps) is not None


def _round(section: AlternateSection, config: TrainConfig, step: int) -> dict[str, Any]:
    """Mining with the checkpoint of this step. Its embeddings are for one round only, so they are not kept."""
    folder = Path(config.run.output)
    return {
        "keep_store": False,
        **section.mine,
        "examples": section.train["data"]["examples"],
        "model": str(folder / "checkpoints" / checkpoint_name(step) / "model"),
        "output": str(round_folder(folder, step)),
    }
