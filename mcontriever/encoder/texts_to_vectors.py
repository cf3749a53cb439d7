"""From texts to embeddings: what `Encoder.embed_queries` and `embed_documents` do.

Texts are tokenized in windows, one window ahead of the model. Each window is sorted by length and cut into batches of a
fixed number of tokens; rows return in the order of the texts. On a CPU each core works on its own batches, because
cores that share a batch wait for each other after every product.

Precision: float32 is exact; bfloat16 and float16 are the processor's fast types; int8 (CPU) is faster still and needs
a sample of texts once, see `cpu_int8.py`; auto is the fastest floating-point type of this processor.
Shapes: N rows, H hidden, T tokens in all.
"""

import contextlib
import copy
import functools
import itertools
import platform
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from mcontriever.core_pool import pool_of_cores
from mcontriever.cpu_operators import bf16_slowdown
from mcontriever.encoder.bag_of_subwords import is_plain_bag
from mcontriever.encoder.packed_forward import can_pack, packed_hidden_states
from mcontriever.errors import ModelError
from mcontriever.processor import multiplies_bf16
from mcontriever.progress import log
from mcontriever.tokens import PackedBatch, pack, tokenize_texts

if TYPE_CHECKING:
    from mcontriever.encoder import Encoder

PRECISIONS = ("auto", "float32", "bfloat16", "float16", "int8")
TEXTS_PER_WINDOW = 4096
TOKENS_PER_BATCH = {"cpu": 2048, "cuda": 65_536}
CALIBRATION_TEXTS = 256
_FLOAT16_CAPABILITY, _BFLOAT16_CAPABILITY = (7, 0), (8, 0)

MIN_BATCHES_PER_CORE = 4  # with fewer, a core may be idle at the end

Embed = Callable[[PackedBatch], torch.Tensor]
Batches = Iterator[tuple[np.ndarray, PackedBatch]]


def embed_texts(encoder: "Encoder", texts: Sequence[str]) -> np.ndarray:
    """float32 [n, H], one row per text. An empty text is its two special tokens; a long one is cut to max_length."""
    embeddings_NH = np.empty((len(texts), encoder.dimension), dtype=np.float32)
    if not texts:
        return embeddings_NH
    if encoder.precision == "int8" and encoder.int8_ranges is None:
        log.info("int8: calibrating on the first texts; call Encoder.calibrate with a sample to choose them yourself")
        encoder.calibrate(texts)
    with _evaluating(encoder), torch.inference_mode():
        embed = encoder.inference_model()
        for rows, batch, found_RH in _embedded(embed, encoder, _sorted_batches(encoder, texts)):
            encoder.truncated_texts += batch.truncated
            embeddings_NH[rows] = found_RH
    return embeddings_NH


def _embedded(
    embed: Embed, encoder: "Encoder", batches: Batches
) -> Iterator[tuple[np.ndarray, PackedBatch, np.ndarray]]:
    def run(batch: PackedBatch) -> np.ndarray:
        with torch.inference_mode():
            found: np.ndarray = embed(batch.to(encoder.device, non_blocking=True)).float().cpu().numpy()
        return found

    cores = torch.get_num_threads() if encoder.device.type == "cpu" and not is_plain_bag(encoder.backbone) else 1
    first = list(itertools.islice(batches, MIN_BATCHES_PER_CORE * cores))
    if cores == 1 or len(first) < MIN_BATCHES_PER_CORE * cores:
        for rows, batch in itertools.chain(first, batches):
            yield rows, batch, run(batch)
        return
    waiting: deque[tuple[np.ndarray, PackedBatch, Future[np.ndarray]]] = deque()
    pool = pool_of_cores()
    try:
        for rows, batch in itertools.chain(first, batches):
            waiting.append((rows, batch, pool.submit(run, batch)))
            if len(waiting) > 2 * cores:
                rows, batch, found = waiting.popleft()
                yield rows, batch, found.result()
        for rows, batch, found in waiting:
            yield rows, batch, found.result()
    finally:
        for _, _, found in waiting:
            found.cancel()


def calibrate_on(encoder: "Encoder", texts: Sequence[str]) -> dict[str, torch.Tensor]:
    """int8's ranges from at most CALIBRATION_TEXTS of the texts, evenly spaced."""
    from mcontriever.encoder.cpu_int8 import calibrate

    _check_int8(encoder)
    if not texts:
        raise ModelError("no text to calibrate int8 on", fix="give a sample of the texts to embed")
    sample = texts[:: -(-len(texts) // CALIBRATION_TEXTS)]
    return calibrate(encoder.folded_backbone(), (batch for _, batch in _sorted_batches(encoder, sample)))


def _sorted_batches(encoder: "Encoder", texts: Sequence[str]) -> Iterator[tuple[np.ndarray, PackedBatch]]:
    """(indices of the texts, packed batch); a window's truncated texts are counted in its first batch."""
    budget = TOKENS_PER_BATCH.get(encoder.device.type, TOKENS_PER_BATCH["cuda"])
    for first, window in _tokenized_windows(encoder, texts):
        order = np.argsort(-window.lengths_N.numpy(), kind="stable")
        by_length, truncated = window.select(order), window.truncated
        for start, stop in _batches(by_length.lengths_N.numpy(), budget):
            yield first + order[start:stop], replace(by_length.slice(start, stop), truncated=truncated)
            truncated = 0


@contextlib.contextmanager
def _evaluating(encoder: "Encoder") -> Iterator[None]:
    if not encoder.backbone.training:
        yield
        return
    encoder.backbone.eval()
    try:
        yield
    finally:
        encoder.backbone.train()


def _tokenized_windows(encoder: "Encoder", texts: Sequence[str]) -> Iterator[tuple[int, PackedBatch]]:
    """(index of the first text, packed window); the next window is tokenized while the model runs on this one."""

    def tokenize(first: int) -> PackedBatch:
        window = texts[first : first + TEXTS_PER_WINDOW]
        flat_ids, lengths = tokenize_texts(encoder.tokenizer, window, encoder.max_length)
        return pack(flat_ids, lengths, encoder.special, encoder.first_position, encoder.max_length)

    firsts = range(0, len(texts), TEXTS_PER_WINDOW)
    with ThreadPoolExecutor(1) as ahead:
        waiting = ahead.submit(tokenize, 0) if texts else None
        for first in firsts:
            assert waiting is not None
            window = waiting.result()
            waiting = (
                ahead.submit(tokenize, first + TEXTS_PER_WINDOW) if first + TEXTS_PER_WINDOW < len(texts) else None
            )
            yield first, window


def _batches(lengths_N: np.ndarray, token_budget: int) -> Iterator[tuple[int, int]]:
    """Row ranges whose padded size is within the budget; rows are sorted, so there is little padding."""
    start = 0
    while start < len(lengths_N):
        stop = start + max(1, token_budget // int(lengths_N[start]))
        yield start, min(stop, len(lengths_N))
        start = stop


def checked_device(device: str | torch.device) -> torch.device:
    try:
        device = torch.device(device)
    except RuntimeError as error:
        raise ModelError(f"{device!r} is not a device", fix="set it to cpu, cuda or cuda:1") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ModelError(
            f"no GPU for device {str(device)!r}: torch {torch.__version__} sees none", fix="use device cpu"
        )
    return device


def resolve_precision(precision: str, device: torch.device) -> str:
    """`auto` becomes the fastest type by capability; a type that the device cannot compute in is refused."""
    if device.type != "cpu" and precision == "int8":
        raise ModelError(f"int8 is for CPUs, not {device}", fix="set precision to bfloat16, float16 or auto on a GPU")
    if device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
        best = "bfloat16" if capability >= _BFLOAT16_CAPABILITY else "float16"
        return (
            best if precision == "auto" and capability >= _FLOAT16_CAPABILITY else precision.replace("auto", "float32")
        )
    if precision == "float16":
        raise ModelError("float16 is for GPUs", fix="set precision to bfloat16, float32, int8 or auto on a CPU")
    return _best_cpu_precision() if precision == "auto" else precision


@functools.cache
def _best_cpu_precision() -> str:
    """By capability; where that says little (outside x86-64), bfloat16 must also win a short measurement."""
    is_best = multiplies_bf16() and (platform.machine() == "x86_64" or bf16_slowdown() < 1)
    return "bfloat16" if is_best else "float32"


@functools.cache
def _report_cpu_precision(asked: str, used: str) -> None:
    """Once per process: what `auto` chose, and what an emulated or a slow type costs."""
    slow = "multiplies float32 faster" if multiplies_bf16() else "emulates bf16"
    if asked == "auto":
        log.info(f"precision auto: {used}, because this processor {'has bf16' if used == 'bfloat16' else slow}")
    elif used == "bfloat16" and _best_cpu_precision() == "float32":
        log.warning(
            f"precision bfloat16: this processor {slow}, so products take {bf16_slowdown():.1f} times as long as in "
            "float32; auto is faster here"
        )


def build_inference_model(encoder: "Encoder") -> Embed:
    """A function from packed batches to embeddings; it may hold a copy of the current weights."""
    precision = resolve_precision(encoder.precision, encoder.device)
    if precision == "int8":
        from mcontriever.encoder.cpu_int8 import int8_backbone

        _check_int8(encoder)
        assert encoder.int8_ranges is not None, "calibrated by embed_texts"
        return _pooling(encoder, int8_backbone(encoder.folded_backbone(), encoder.int8_ranges))
    dtype: torch.dtype = getattr(torch, precision)
    if not can_pack(encoder.backbone.config):
        return _padded_model(encoder, dtype)
    if encoder.pooling == "mean" and is_plain_bag(encoder.backbone):
        return encoder.forward
    if encoder.device.type == "cpu":
        from mcontriever.encoder.cpu_backbone import FastCpuBackbone

        _report_cpu_precision(encoder.precision, precision)
        return _pooling(encoder, FastCpuBackbone.of(encoder.folded_backbone(), dtype))
    backbone = encoder.folded_backbone()
    backbone = backbone if dtype == torch.float32 else copy.deepcopy(backbone).to(dtype)
    return _pooling(encoder, lambda batch: packed_hidden_states(backbone, batch))


def _check_int8(encoder: "Encoder") -> None:
    if not can_pack(encoder.backbone.config):
        raise ModelError(
            f"int8 is for XLM-R, RoBERTa and BERT models; this is {encoder.backbone.config.model_type}",
            fix="set precision to bfloat16 or float32",
        )


def _pooling(encoder: "Encoder", hidden_states: Callable[[PackedBatch], torch.Tensor]) -> Embed:
    def embed(batch: PackedBatch) -> torch.Tensor:
        return encoder.pool(hidden_states(batch), batch)

    return embed


def _padded_model(encoder: "Encoder", dtype: torch.dtype) -> Embed:
    def embed(batch: PackedBatch) -> torch.Tensor:
        with torch.autocast(encoder.device.type, dtype=dtype, enabled=dtype != torch.float32):
            return encoder.forward_padded(batch)

    return embed
