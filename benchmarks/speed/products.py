"""What products of matrices alone reach here, in fp32, bf16 and 8 bits: nothing that is made of them can be faster.

    python benchmarks/speed/products.py --rounds 21

The shapes are those of XLM-R base's layers with 2,048 tokens. fp32 is `torch.nn.functional.linear`, as other libraries
call it; the others are oneDNN's with weights laid out once, as `cpu_operators.py` uses them, without bias,
activation or residual. All cores share a product; shapes and types take turns. Writes results/products.json: medians,
in 10^9 operations a second, and for a whole layer the time that the four products take beside fp32's.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import torch
from result_files import RESULTS, machine_facts, show_and_keep

from mcontriever.encoder.cpu_backbone import PreparedLinear

TOKENS = 2048
LAYER = {"query, key and value": (768, 2304), "attended": (768, 768), "inner": (768, 3072), "outer": (3072, 768)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=21)
    options = parser.parse_args()
    contenders = {(name, dtype): work for name, shape in LAYER.items() for dtype, work in products(*shape).items()}
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in contenders}
    for _ in range(options.rounds + 1):
        for key, work in contenders.items():
            started = time.perf_counter()
            work()
            seconds[key].append(time.perf_counter() - started)
    medians = {key: statistics.median(values[1:]) for key, values in seconds.items()}
    layer = {dtype: sum(medians[name, dtype] for name in LAYER) for _, dtype in medians}
    rates = {
        dtype: {name: round(2e-9 * TOKENS * ins * outs / medians[name, dtype]) for name, (ins, outs) in LAYER.items()}
        for dtype in layer
    }
    report = {
        "command": " ".join(["python benchmarks/speed/products.py", *sys.argv[1:]]),
        "machine": machine_facts("torch"),
        "billions_of_operations_a_second": rates,
        "times_fp32_over_a_layer": {dtype: round(layer["fp32"] / value, 2) for dtype, value in layer.items()},
    }
    show_and_keep(report, RESULTS / "products.json")


def products(ins: int, outs: int) -> dict[str, Callable[[], torch.Tensor]]:
    values, weight = torch.randn(TOKENS, ins), torch.randn(outs, ins)
    halves = values.bfloat16()
    prepared = PreparedLinear(weight, torch.zeros(outs), dtype=torch.bfloat16, prepack=True)
    bytes_in = torch.randint(0, 256, (TOKENS, ins), dtype=torch.uint8)
    bytes_weight = torch.ops.onednn.qlinear_prepack(
        torch.randint(-127, 128, (outs, ins), dtype=torch.int8), [TOKENS, ins]
    )
    scales, zeros = torch.ones(outs), torch.zeros(outs, dtype=torch.int32)
    return {
        "fp32": lambda: torch.nn.functional.linear(values, weight),
        "bf16": lambda: prepared(halves),
        "int8": lambda: torch.ops.onednn.qlinear_pointwise(
            bytes_in, 1.0, 128, bytes_weight, scales, zeros, None, 1.0, 0, torch.bfloat16, "none", [], ""
        ),
    }


if __name__ == "__main__":
    main()
