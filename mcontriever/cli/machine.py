"""The command line of `doctor`."""

import json
from typing import Annotated

import typer

from mcontriever.standard_output import writing_results


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")] = False,
) -> None:
    """Show what this machine has and can reach: versions, processor, GPUs, speed per precision, launcher, hub."""
    from mcontriever import doctor as verb

    found = verb.run()
    shown = json.dumps(found, indent=2) if as_json else verb.as_text(found)
    with writing_results():
        print(shown)
