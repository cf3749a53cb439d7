"""InfoNCE over a queue: time, memory and exactness of the plain form beside the chunked one, alternating in one run.

    python benchmarks/speed/infonce.py --queries 256 --keys 131072 --dimension 768 --rounds 5

Plain is cross-entropy over [positive, queue] in float32. Each contender runs forward and backward; `memory` is the peak
of what it allocates beside its inputs; `error` is the relative distance of its gradient from float64's, in three
settings: random vectors, a positive that dominates, and a few hard negatives that carry all the weight. Writes
results/infonce-DEVICE.json. `--busy` takes one thread and counts its processor's seconds, and writes nothing.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import torch
from result_files import RESULTS, machine_facts, show_and_keep
from torch.nn.functional import cross_entropy, normalize, softplus

from mcontriever.pretraining.infonce import Negatives, infonce

TEMPERATURE = 0.05
REFERENCE = "plain, float32"
Gradient = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def main() -> None:
    options = parse_options()
    if options.busy:
        torch.set_num_threads(1)
    contenders: dict[str, tuple[torch.dtype, Gradient]] = {
        REFERENCE: (torch.float32, plain),
        "chunked, float32": (torch.float32, chunked),
        "chunked, bfloat16 keys": (torch.bfloat16, chunked),
    }
    results: dict[str, dict[str, object]] = {name: {"error": {}} for name in contenders}
    for setting in ("random", "dominating positive", "hard negatives"):
        inputs = [part.to(options.device) for part in make_inputs(setting, options)]
        expected = exact(*inputs)
        for name, (dtype, gradient) in contenders.items():
            found = gradient(inputs[0], inputs[1], inputs[2].to(dtype))
            error = float((found.double() - expected).norm() / expected.norm())
            results[name]["error"][setting] = float(f"{error:.1e}")  # type: ignore[index]
    inputs = [part.to(options.device) for part in make_inputs("random", options)]
    for name, seconds in measure(contenders, inputs, options).items():
        dtype, gradient = contenders[name]
        converted = inputs[2].to(dtype)
        results[name]["milliseconds"] = 1000 * seconds
        results[name]["megabytes"] = peak_bytes(lambda g=gradient, k=converted: g(*inputs[:2], k)) / 1e6
    report = {
        "command": " ".join(["python", "benchmarks/speed/infonce.py", *sys.argv[1:]]),
        "machine": machine_facts("torch", device=options.device),
        "results": with_ratios(results),
    }
    show_and_keep(report, None if options.busy else RESULTS / f"infonce-{options.device}.json")


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=256)
    parser.add_argument("--keys", type=int, default=131_072)
    parser.add_argument("--dimension", type=int, default=768)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--busy", action="store_true", help="a machine that others use too")
    return parser.parse_args()


def make_inputs(setting: str, options: argparse.Namespace) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    queries, noise = (torch.randn(options.queries, options.dimension, generator=generator) for _ in range(2))
    keys = torch.randn(options.keys, options.dimension, generator=generator)
    if setting == "hard negatives":
        for first in range(0, 4 * options.queries, options.queries):
            near = torch.randn(options.queries, options.dimension, generator=generator)
            keys[first : first + options.queries] = queries + 0.6 * near
    positives = queries + (0.3 if setting == "dominating positive" else 1.5) * noise
    return [normalize(part, dim=-1) for part in (queries, positives, keys)]


def plain(queries: torch.Tensor, positives: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    queries = queries.clone().requires_grad_()
    scores = torch.cat([(queries * positives).sum(1, keepdim=True), queries @ keys.T], 1) / TEMPERATURE
    cross_entropy(scores, torch.zeros(len(queries), dtype=torch.long, device=queries.device)).backward()
    assert queries.grad is not None
    return queries.grad


def chunked(queries: torch.Tensor, positives: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    queries = queries.clone().requires_grad_()
    texts = torch.arange(len(keys), device=keys.device)
    negatives = Negatives(keys, texts + len(queries), torch.zeros_like(texts))
    own_texts = texts[: len(queries)]
    infonce(queries, positives[:, None], [negatives], 1 / TEMPERATURE, text_B=own_texts).loss_Bn.mean().backward()
    assert queries.grad is not None
    return queries.grad


def exact(queries: torch.Tensor, positives: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    queries = queries.double().requires_grad_()
    negative = torch.logsumexp(queries @ keys.double().T / TEMPERATURE, 1)
    softplus(negative - (queries * positives).sum(1) / TEMPERATURE).mean().backward()
    assert queries.grad is not None
    return queries.grad


def measure(
    contenders: dict[str, tuple[torch.dtype, Gradient]], inputs: list[torch.Tensor], options: argparse.Namespace
) -> dict[str, float]:
    clock = time.process_time if options.busy else time.perf_counter
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for round_number in range(options.rounds + 1):
        for name, (dtype, gradient) in contenders.items():
            keys = inputs[2].to(dtype)
            synchronize(options.device)
            started = clock()
            gradient(inputs[0], inputs[1], keys)
            synchronize(options.device)
            if round_number:  # the first warms up
                seconds[name].append(clock() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


def synchronize(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def peak_bytes(work: Callable[[], object]) -> int:
    """The highest sum of allocations during the work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        work()
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        work()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    total = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        total += event.nbytes()
        peak = max(peak, total)
    return peak


def with_ratios(results: dict[str, dict[str, object]]) -> dict[str, dict[str, object]]:
    """Of what was measured; rounded figures of small inputs are 0."""
    first = dict(results[REFERENCE])
    for values in results.values():
        milliseconds, megabytes = values["milliseconds"], values["megabytes"]
        values["times as fast"] = round(first["milliseconds"] / milliseconds, 2)  # type: ignore[operator]
        values["share of the memory"] = round(megabytes / first["megabytes"], 4)  # type: ignore[operator]
        values |= {"milliseconds": round(milliseconds, 1), "megabytes": round(megabytes, 1)}  # type: ignore[call-overload]
    return results


if __name__ == "__main__":
    main()
