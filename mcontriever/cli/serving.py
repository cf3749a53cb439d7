"""The command line of `serve`."""

from pathlib import Path
from typing import Annotated

import typer

from mcontriever.progress import log


def serve(
    stores: Annotated[
        list[str],
        typer.Argument(metavar="STORE...", help="Folders that mcontriever embed made; NAME=FOLDER names one."),
    ],
    host: Annotated[str, typer.Option(help="The address to listen on; all but this machine's own need a token.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8080,
    workers: Annotated[int, typer.Option(min=1, help="Processes; they share the mapped files of the stores.")] = 1,
    token_file: Annotated[
        Path | None, typer.Option(help="A file with the token that clients must send; or MCONTRIEVER_TOKEN.")
    ] = None,
    rerank: Annotated[str | None, typer.Option(help="A cross-encoder for requests that ask to re-rank.")] = None,
    waiting: Annotated[int, typer.Option(min=1, help="How many requests may wait in each process.")] = 256,
    answer_seconds: Annotated[float, typer.Option(min=0.1, help="The most time for one request.")] = 30.0,
    arrival_seconds: Annotated[
        int, typer.Option(min=1, help="How long a request may take to arrive, and a connection be idle.")
    ] = 10,
    model: Annotated[str | None, typer.Option(help="The stores' encoder, if it was moved.")] = None,
    memory_mb: Annotated[int, typer.Option(min=1, help="Working memory of exact search.")] = 200,
) -> None:
    """Serve stores over HTTP: a page, a search API, embeddings as OpenAI's clients ask for them."""
    from mcontriever import serve as verb

    request = verb.ServeRequest(
        stores=verb.named_stores(stores),
        model=model,
        rerank=rerank,
        memory_mb=memory_mb,
        token=verb.read_token(token_file),
        waiting=waiting,
        answer_seconds=answer_seconds,
        arrival_seconds=arrival_seconds,
        log_level=log.level,
    )
    verb.run(request, host=host, port=port, workers=workers)
