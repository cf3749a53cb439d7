"""The command line of the verbs around training: `train`, what it needs and what it leaves, and `run` and `demo`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from mcontriever.cli.configuration_options import Overrides, PrintConfig, show_config


def train(
    config: Annotated[str, typer.Option(help="An experiment (YAML), for example configs/pretrain/tiny_cpu.yaml.")],
    overrides: Overrides = None,
    print_config: PrintConfig = False,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Show size, memory, tokens and time; do nothing.")
    ] = False,
    gpus: Annotated[
        int | None, typer.Option(min=1, help="With --estimate: on how many GPUs; one, or those of --hostfile.")
    ] = None,
    hostfile: Annotated[
        Path | None,
        typer.Option(help="Train on these machines, each a line HOST slots=N, through DeepSpeed's launcher."),
    ] = None,
    master_port: Annotated[
        int | None,
        typer.Option("--master_port", min=1, max=65535, help="With --hostfile: the port where the processes meet."),
    ] = None,
    local_rank: Annotated[int, typer.Option("--local_rank", "--local-rank", hidden=True)] = 0,
    deepspeed: Annotated[bool, typer.Option("--deepspeed", hidden=True)] = False,  # as users of DeepSpeed type it
    deepspeed_config: Annotated[
        str | None, typer.Option("--deepspeed_config", help="A file (YAML or JSON) in place of the section deepspeed.")
    ] = None,
) -> None:
    """Train in this process; for several, `deepspeed mcontriever/train.py` takes the same options."""
    from mcontriever.assembly.training_config import load_train_config

    loaded = load_train_config(config, overrides, deepspeed=deepspeed_config)
    if print_config:
        show_config(loaded)
    if estimate:
        from mcontriever.assembly.run_cost import run_cost
        from mcontriever.training.deepspeed_launcher import check_hostfile

        slots = check_hostfile(hostfile) if hostfile else 1
        print(run_cost(loaded, world_size=gpus or slots))
    elif hostfile is not None:
        from mcontriever.training.deepspeed_launcher import launch

        words = ["--config", config, *(word for override in overrides or () for word in ("--set", override))]
        words += ["--deepspeed_config", deepspeed_config] if deepspeed_config else []
        raise typer.Exit(launch(hostfile, words, port=master_port))
    else:
        from mcontriever import train as verb

        verb.run(loaded)


def export(
    checkpoint: Annotated[
        str,
        typer.Argument(
            help="A run's folder (its newest checkpoint), a checkpoint's, or a model: a folder, mini, nano."
        ),
    ],
    output: Annotated[Path, typer.Option(help="The folder for the model.")],
    weights: Annotated[
        Literal["float32", "float16", "float8", "int4-blocks", "int4", "int2"],
        typer.Option(help="The type of stored tables; the last three are read by mcontriever only."),
    ] = "float32",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the model in the output folder.")] = False,
) -> None:
    """Write a checkpoint's model as a folder that sentence-transformers and transformers can load."""
    from mcontriever import export as verb

    verb.run(checkpoint, output, weights=weights, overwrite=overwrite)


def trim(
    model: Annotated[str, typer.Argument(help="A model: a folder, a hub name, or one that comes with the package.")],
    output: Annotated[Path, typer.Option(help="The folder for the smaller model.")],
    text: Annotated[
        str | None,
        typer.Option(help="Where pieces are counted: a recipe, what `prepare` made, or JSON lines (file or folder)."),
    ] = None,
    languages: Annotated[str | None, typer.Option(help="Only these of the text's languages: ar,sw,en")] = None,
    pieces: Annotated[
        int | None, typer.Option(min=1, help="How many pieces to keep; all that the text uses if not given.")
    ] = None,
    layers: Annotated[str | None, typer.Option(help="Which layers to keep, from 0: 0-5 or 0,2,4.")] = None,
    weights: Annotated[
        str | None, typer.Option(help="Languages that matter more or less than the others: en=3,sw=0.5")
    ] = None,
    max_characters: Annotated[
        int, typer.Option(min=1000, help="How much text of each language is counted.")
    ] = 2_000_000,
    samples: Annotated[int, typer.Option(min=1, help="Texts of each language that the report compares.")] = 50,
    center: Annotated[
        bool, typer.Option("--center", help="Subtract the mean vector of these texts: no training, often finds more.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the model in the output folder.")] = False,
) -> None:
    """Keep the pieces of a model that some languages need, or some of its layers, and report the cost."""
    from mcontriever import trim as verb

    verb.run(
        model,
        output,
        text=text,
        languages=[code.strip() for code in languages.split(",") if code.strip()] if languages else None,
        pieces=pieces,
        layers=layers,
        weights=verb.language_weights(weights) if weights else None,
        max_characters=max_characters,
        samples=samples,
        center=center,
        overwrite=overwrite,
    )


def average(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...", help="Two models or more: folders, hub names. The first gives the prefixes."
        ),
    ],
    output: Annotated[Path, typer.Option(help="The folder for the model.")],
    weights: Annotated[
        str | None, typer.Option(help="How much each model counts: 2,1. All the same if not given.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the model in the output folder.")] = False,
) -> None:
    """Write the mean of the weights of several models: one before and after training, or runs with several seeds."""
    from mcontriever import average as verb

    numbers = verb.model_weights(weights) if weights is not None else None
    verb.run(models, output, weights=numbers, overwrite=overwrite)


def plot(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs (run.output).")],
    output: Annotated[Path, typer.Option(help="The picture to write.")] = Path("curves.png"),
    metric: Annotated[
        Literal["ndcg@10", "mrr@100", "recall@100"], typer.Option(help="Which dev score to draw.")
    ] = "ndcg@10",
) -> None:
    """Draw the curves of one or several runs: loss, accuracy, alignment and uniformity, dev scores."""
    from mcontriever import plot as verb

    verb.run(runs, output, metric)


def mine(
    config: Annotated[str, typer.Option(help="What to mine (YAML), for example configs/mine/msmarco_dense.yaml.")],
    overrides: Overrides = None,
    print_config: PrintConfig = False,
) -> None:
    """Find hard negatives for labelled queries in a corpus. The same command resumes it after an interruption."""
    from mcontriever import mine as verb
    from mcontriever.config import MineConfig, load_config

    loaded = load_config(MineConfig, config, overrides)
    if print_config:
        show_config(loaded)
    verb.run(loaded)


def generate(
    config: Annotated[str, typer.Option(help="What to write (YAML), for example configs/generate/queries.yaml.")],
    overrides: Overrides = None,
    print_config: PrintConfig = False,
) -> None:
    """Write queries for passages, or passages expanded by them, with a sequence-to-sequence model."""
    from mcontriever import generate as verb
    from mcontriever.config import GenerateConfig, load_config

    loaded = load_config(GenerateConfig, config, overrides)
    if print_config:
        show_config(loaded)
    verb.run(loaded)


def run(
    plan: Annotated[str, typer.Argument(help="Stages (YAML), for example configs/finetune/contriever_two_stage.yaml.")],
    overrides: Overrides = None,
    print_config: PrintConfig = False,
) -> None:
    """Run several verbs one after another: train, mine, train again. The same command resumes it."""
    from mcontriever import run as verb
    from mcontriever.config.plan import load_plan

    loaded = load_plan(plan, overrides)
    if print_config:
        show_config(loaded)
    verb.run(loaded)


def demo(
    output: Annotated[str, typer.Option(help="The folder for all that it makes.")] = "runs/demo",
) -> None:
    """The main job on the bundled atlas: embed, search in Arabic and Swahili, train on two processes, benchmark."""
    from mcontriever import demo as verb

    verb.run(output)
