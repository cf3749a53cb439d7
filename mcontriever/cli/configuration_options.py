"""The options of several verbs: `--set` and `--print-config`; the engine of long jobs, and where they copy to."""

from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from mcontriever.config import Section

Overrides = Annotated[list[str] | None, typer.Option("--set", help="Change one value: section.key=value. Repeatable.")]
PrintConfig = Annotated[bool, typer.Option("--print-config", help="Show the resolved values and stop.")]

Engine = Annotated[
    str, typer.Option(help="local, ray (this machine's cluster, or one started here), or ray://HOST:PORT of its head.")
]

Upload = Annotated[
    str | None, typer.Option(help="Keep a copy of the output at this URL: s3://BUCKET/FOLDER, or another of fsspec's.")
]


def show_config(config: "Section") -> NoReturn:
    from mcontriever.config import dump_config

    print(dump_config(config), end="")
    raise typer.Exit
