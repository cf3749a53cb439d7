"""Embed a corpus into a store: vector shards with a manifest; safe to kill at any moment and to run again.

mcontriever embed CORPUS --output STORE [--model M] [--processes 4]          M is mini if not given; nano is faster
deepspeed --no_local_rank --module mcontriever embed CORPUS --model M --output STORE
srun mcontriever embed CORPUS --model M --output STORE
mcontriever embed CORPUS --model M --output STORE --engine ray://HOST:6379   tasks on a Ray cluster
mcontriever embed CORPUS --output STORE --upload s3://bucket/store           and a copy in an object store
"""

import sys
from collections.abc import Sequence

from mcontriever.errors import ConfigError
from mcontriever.ray_engine import LOCAL
from mcontriever.retrieval.embedding.embedding_run import embed
from mcontriever.retrieval.embedding.launching import Place
from mcontriever.retrieval.embedding.request import EmbeddingRequest, Mode
from mcontriever.uploaded_copy import uploading


def run(request: EmbeddingRequest, processes: int = 1, engine: str = LOCAL, upload: str | None = None) -> None:
    world = Place.of_environment().world
    if upload is not None and world > 1:
        raise ConfigError(
            f"--upload is not for a launch of {world} ranks",
            fix="run the same command once more without the launcher and with --upload, when the store is complete",
        )
    with uploading(request.output, upload, while_made=True):
        embed(request, processes, engine=engine)


def mode_of(*, append: bool, replace: bool) -> Mode:
    if append and replace:
        raise ConfigError("--append and --replace were both given", fix="give --replace alone: it adds new ids, too")
    return "append" if append else "replace" if replace else "new"


def named_fields(assignments: Sequence[str]) -> dict[str, str]:
    """["text=body"] -> {"text": "body"}."""
    fields = {}
    for assignment in assignments:
        ours, separator, theirs = assignment.partition("=")
        if not separator or not ours or not theirs:
            raise ConfigError(f"--fields {assignment}: expected OURS=THEIRS", fix="for example --fields text=body")
        fields[ours] = theirs
    return fields


if __name__ == "__main__":  # `deepspeed mcontriever/embed.py ...` adds --local_rank
    from mcontriever.cli import main

    main(["embed", *(argument for argument in sys.argv[1:] if not argument.startswith("--local_rank"))])
