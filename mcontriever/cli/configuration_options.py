"""The options of every verb that reads a configuration: `--set` and `--print-config`."""

from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from mcontriever.config import Section

Overrides = Annotated[list[str] | None, typer.Option("--set", help="Change one value: section.key=value. Repeatable.")]
PrintConfig = Annotated[bool, typer.Option("--print-config", help="Show the resolved values and stop.")]


def show_config(config: "Section") -> NoReturn:
    from mcontriever.config import dump_config

    print(dump_config(config), end="")
    raise typer.Exit
