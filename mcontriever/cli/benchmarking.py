"""The command line of `benchmark`."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

Scatter = Annotated[bool, typer.Option("--scatter", help="Keep each parallel document in one of its languages only.")]


def benchmark(
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="mini, nano, a folder, hub name, bm25, bm25:subwords=TOKENIZER, dpr:Q,P, hybrid:A,B, X+rerank:CE. "
            "Several may follow."
        ),
    ] = None,
    suite: Annotated[
        str | None, typer.Option(help="atlas, mixed, beir, nano-beir, cross-script, mr-tydi, ... or a YAML file.")
    ] = None,
    tasks: Annotated[
        list[str] | None, typer.Option(help="Folders in BEIR layout, or names of MTEB's tasks. Several may follow.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="The folder for scores.json, scores.md and scores.png.")] = None,
    offline: Annotated[
        Path | None, typer.Option(help="Use what --prefetch put into this folder, and no network.")
    ] = None,
    prefetch: Annotated[Path | None, typer.Option(help="Fetch the suite's data and models into this folder.")] = None,
    compare: Annotated[
        tuple[str, str] | None, typer.Option(help="Two results (DIR or DIR:MODEL): what changed significantly?")
    ] = None,
    store: Annotated[
        list[Path] | None,
        typer.Option(help="Stores of psgs_w100.tsv for the suites open-qa and mkqa. Several may follow."),
    ] = None,
    center_languages: Annotated[
        bool,
        typer.Option(
            "--center-languages", help="Each encoder a second time, with each language's mean vector subtracted."
        ),
    ] = False,
    scatter: Scatter = False,
    rerank_depth: Annotated[int, typer.Option(min=1, help="How many hits +rerank: scores again.")] = 100,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    card: Annotated[
        bool, typer.Option("--card", help="Write the scores into the model card of each model folder.")
    ] = False,
) -> None:
    """Score models on retrieval tasks through MTEB, beside the published figures."""
    from mcontriever import benchmark as verb

    verb.run(
        verb.Request(
            models=model or (),
            suite=suite,
            tasks=tasks or (),
            output=output,
            offline=offline,
            prefetch=prefetch,
            compare=compare,
            stores=store or (),
            center_languages=center_languages,
            scatter=scatter,
            rerank_depth=rerank_depth,
            device=device,
            card=card,
        )
    )


class SeveralValues(TyperCommand):
    """Reads `--tasks a b c`, which a shell's wildcards give, as `--tasks a --tasks b --tasks c`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        spread: list[str] = []
        option = ""
        for argument in args:
            if argument.startswith("--"):
                option = argument
            elif option in ("--model", "--tasks", "--store") and spread[-1] != option:
                spread.append(option)
            spread.append(argument)
        return super().parse_args(ctx, spread)
