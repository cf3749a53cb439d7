"""The command line of the verbs that read raw text: `prepare` and `tokenizer`."""

from typing import Annotated

import typer

from mcontriever.cli.configuration_options import Engine, Overrides, PrintConfig, Upload, show_config


def prepare(
    recipe: Annotated[str, typer.Argument(help="A recipe (YAML), or the name of one that ships: atlas, ccnet29, ...")],
    output: Annotated[str, typer.Option(help="The folder for the token shards.")],
    tokenizer: Annotated[str, typer.Option(help="The encoder's tokenizer: a folder, a hub name, mini or nano.")],
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes, with Ray tasks at a time; all cores if not given.")
    ] = None,
    engine: Engine = "local",
    upload: Upload = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first damaged line or file.")] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Remove what the folder holds and start again.")] = False,
    overrides: Overrides = None,
    print_config: PrintConfig = False,
) -> None:
    """Turn shards of text into token shards, by a recipe. The same command resumes it after an interruption."""
    from mcontriever import prepare as verb
    from mcontriever.config import load_recipe

    loaded = load_recipe(recipe, overrides)
    if print_config:
        show_config(loaded)
    verb.run(loaded, output, tokenizer, workers=workers, strict=strict, restart=restart, engine=engine, upload=upload)


def tokenizer(
    recipe: Annotated[str, typer.Argument(help="A recipe (YAML), or the name of one that ships.")],
    output: Annotated[str, typer.Option(help="The folder for the tokenizer.")],
    vocabulary: Annotated[int, typer.Option(min=50, help="How many pieces, special ones included.")],
    alpha: Annotated[float, typer.Option(help="A language's share grows with its size to this power.")] = 0.3,
    max_characters: Annotated[int, typer.Option(min=1000, help="How much text to train on.")] = 100_000_000,
    seed: Annotated[int, typer.Option(help="Which texts are sampled.")] = 0,
    lowercase: Annotated[bool, typer.Option("--lowercase", help="Fold case: a word and its capital are one.")] = False,
    dictionaries: Annotated[
        str | None,
        typer.Option(help="Bilingual word lists, as data/en-{language}.tsv.gz, whose words may become pieces."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the tokenizer in the output folder.")] = False,
    overrides: Overrides = None,
) -> None:
    """Train a sentencepiece tokenizer in XLM-R's layout on a recipe's text."""
    from mcontriever import tokenizer as verb
    from mcontriever.config import load_recipe

    loaded = load_recipe(recipe, overrides)
    verb.run(
        loaded,
        output,
        vocabulary=vocabulary,
        alpha=alpha,
        max_characters=max_characters,
        seed=seed,
        lowercase=lowercase,
        dictionaries=dictionaries,
        overwrite=overwrite,
    )
