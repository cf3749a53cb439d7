"""The negatives in use at a step: the examples' own, or those mined with the checkpoint of the last refresh.

RUN/negatives/step-00001000/    what `mine` wrote with the model of step 1,000; used from that step on
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mcontriever.errors import StoreError
from mcontriever.finetuning.examples.example_source import ExampleSource
from mcontriever.finetuning.examples.training_set import TrainingSet, open_training_set
from mcontriever.finetuning.part_folder import mined_folder


def round_folder(run: Path, step: int) -> Path:
    return run / "negatives" / f"step-{step:08}"


def examples_in_force(source: Mapping[str, Any], run: Path, step: int, refresh_every: int | None) -> TrainingSet:
    """`source` are the arguments of `open_training_set` for the first examples."""
    due = 0 if refresh_every is None else step // refresh_every * refresh_every
    if due == 0:
        return open_training_set(**source)
    folder = round_folder(run, due)
    if not mined_folder(folder).is_complete:
        raise StoreError(
            f"fresh negatives are due from step {due:,} on, but have not been mined",
            where=folder,
            fix="start the plan instead, which trains and mines alternately: mcontriever run PLAN.yaml",
        )
    passages_file = ExampleSource.of(source).passages_file()
    return open_training_set(
        format="dpr",
        paths=[str(folder / "mined-*.jsonl")],
        collection=None if passages_file is None else str(passages_file),
        cache=source["cache"],
    )
