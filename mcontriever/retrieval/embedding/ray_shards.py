"""Embedding on a Ray cluster: the command reads the corpus once, and a task for each shard embeds and writes it.

A task depends on its arguments alone, and its shard is done when its entry is written, so Ray may run it once more
elsewhere. Tasks hold no lock: the command holds the store's.
"""

import functools
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mcontriever.disk import remove_temporaries
from mcontriever.errors import ConfigError
from mcontriever.progress import track
from mcontriever.ray_engine import RayCluster, Share
from mcontriever.retrieval.embedding.corpus import Corpus
from mcontriever.retrieval.embedding.encoder_origin import EncoderOrigin
from mcontriever.retrieval.embedding.shard_embedding import LanguageShares, calibrate, embed_shard, missing_shards
from mcontriever.retrieval.embedding.store_estimate import announce_estimate
from mcontriever.retrieval.store.store_encoder import check_encoder, encoder_entry
from mcontriever.retrieval.store.store_manifest import Plan
from mcontriever.texts.documents import Document

if TYPE_CHECKING:
    from mcontriever.encoder import Encoder


class TaskEncoder(NamedTuple):
    """How a task gets its encoder: from where, and onto what."""

    origin: EncoderOrigin
    device: str
    cpus: int


def share_of_a_task(cluster: RayCluster, device: str, processes: int) -> Share:
    """A GPU for each task where there is one, unless the device is cpu; `processes` tasks at a time on a machine."""
    if device.startswith("cuda") and not cluster.has_gpus():
        raise ConfigError(f"--device {device}, but no machine of the Ray cluster has a GPU", fix="give --device cpu")
    return cluster.share(processes, gpus=device != "cpu" and cluster.has_gpus())


def load_for_planning(origin: EncoderOrigin, share: Share) -> "Encoder | None":
    """On this machine's processor, which says what the vectors will be; the tasks' own GPUs compute in their types."""
    return (replace(origin, precision="float32") if share.gpus else origin).load("cpu")


def embed_on_ray(
    cluster: RayCluster,
    folder: Path,
    plan: Plan,
    corpus: Corpus,
    *,
    origin: EncoderOrigin,
    encoder: "Encoder | None",
    share: Share,
) -> None:
    """All shards that are not done yet. `encoder` is the one that planned."""
    gpus = share.gpus > 0
    if encoder is not None and not gpus:
        origin = replace(origin, precision=encoder.precision)  # one type on all machines
    how = TaskEncoder(origin, "cuda" if gpus else "cpu", share.cpus)
    missing = missing_shards(folder, plan)
    if missing and encoder is not None and encoder.precision == "int8" and encoder.int8_ranges is None:
        calibrate(encoder, corpus, plan)
    shared = (cluster.keep(plan), how, cluster.keep(encoder.int8_ranges if encoder else None))
    ends = [0, *plan.run.shard_ends]
    bounds = [(ends[index], ends[index + 1]) for index in missing]
    total = sum(stop - start for start, stop in bounds)
    if missing:
        cores = cluster.room(share) * share.cpus / len(os.sched_getaffinity(0))  # for each of those that measure
        first = next(corpus.ranges(bounds[:1]))
        announce_estimate(folder, plan, total / plan.run.documents / cores, first, None if gpus else encoder)
    calls = (
        (folder.resolve(), index, documents, *shared)
        for index, documents in zip(missing, corpus.ranges(bounds), strict=True)
    )
    shares = LanguageShares(plan)
    with track(total, "embedding", "documents") as progress:
        for ended in cluster.run(_embed_shard, calls, share):
            if ended is not None:
                progress.advance(ended.result.total(), languages=shares.after(ended.result))
    remove_temporaries(folder)  # of workers that were lost


def _embed_shard(
    folder: Path, index: int, documents: list[Document], plan: Plan, how: TaskEncoder, ranges: Any
) -> "Counter[str]":
    """The task: make the shard, and say how many documents it had in each language."""
    encoder = _loaded(how)
    check_encoder(plan.layout.encoder, encoder_entry(how.origin.name, encoder), folder)
    if encoder is not None and encoder.int8_ranges is None:
        encoder.int8_ranges = ranges
    embed_shard(folder, plan, index, documents, encoder)
    return Counter(document.language for document in documents)


@functools.lru_cache(maxsize=1)
def _loaded(how: TaskEncoder) -> "Encoder | None":
    """Once in each of Ray's worker processes."""
    encoder = how.origin.load(how.device)
    if encoder is not None:
        import torch

        torch.set_num_threads(how.cpus)
    return encoder
