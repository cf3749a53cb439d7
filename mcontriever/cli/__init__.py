"""`mcontriever <verb>`: the command line. Each verb is imported when it runs, so help needs no torch."""

import errno
import functools
import os
import sys
import time
from collections.abc import Callable
from typing import Annotated, NoReturn

import typer

from mcontriever.cli.benchmarking import SeveralValues, benchmark
from mcontriever.cli.corpora import prepare, tokenizer
from mcontriever.cli.machine import doctor
from mcontriever.cli.serving import serve
from mcontriever.cli.stores import delete, embed, index, search, verify
from mcontriever.cli.training import average, demo, export, generate, mine, plot, run, train, trim
from mcontriever.errors import ConfigError, UserError
from mcontriever.progress import log, setup_logging
from mcontriever.prompt_end import ADVICE, INTERRUPTED, end_promptly
from mcontriever.standard_output import replace_unknown_letters, unwritten, writing_results

HEAD_START_SECONDS = 10.0


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run a verb; a user's mistake becomes one message on stderr and exit code 2. SIGTERM does what Ctrl-C does."""
    end_promptly()
    replace_unknown_letters()
    try:
        _command()(args=arguments, standalone_mode=True)
    except UserError as error:
        fail(error)
    except OSError as error:  # of help, which typer prints
        if error.errno != errno.ENOSPC or error.filename is not None:
            raise
        fail(unwritten(error))
    except KeyboardInterrupt:  # before the verb has begun
        log.warning(ADVICE)
        sys.exit(INTERRUPTED)
    except SystemExit as end:
        if end.code == INTERRUPTED:
            log.warning(ADVICE)
        raise
    sys.exit(0)


@functools.cache
def _command() -> Callable[..., object]:
    """Made once in a process: reading the options of all verbs takes 7 ms."""
    return typer.main.get_command(app)


def fail(error: UserError) -> NoReturn:
    """Of a distributed run's ranks, the first prints at once; its launcher then ends the others before they print."""
    if os.environ.get("RANK", "0") != "0":
        try:
            time.sleep(HEAD_START_SECONDS)
        except KeyboardInterrupt:  # the launcher has heard the first one
            sys.exit(2)
    print(f"error: {error}", file=sys.stderr)
    sys.exit(2)


def _show_version(wanted: bool) -> None:
    if wanted:
        from mcontriever import __version__

        with writing_results():
            print(f"mcontriever {__version__}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings, errors and results.")] = False,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
) -> None:
    if log_level not in ("debug", "info", "warning", "error"):
        raise ConfigError(f"--log-level {log_level} is not a level", fix="choose debug, info, warning or error")
    setup_logging(log_level, quiet)


app = typer.Typer(
    name="mcontriever",
    help="Find a document in any language from a query in any language.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.callback()(_options)
app.command()(prepare)
app.command()(tokenizer)
app.command(cls=SeveralValues)(benchmark)
app.command()(embed)
app.command()(search)
app.command()(serve)
app.command()(verify)
app.command()(delete)
app.command()(index)
app.command()(train)
app.command()(export)
app.command()(trim)
app.command()(average)
app.command()(plot)
app.command()(mine)
app.command()(demo)
app.command()(generate)
app.command()(run)
app.command()(doctor)
