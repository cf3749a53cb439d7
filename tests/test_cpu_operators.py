"""cpu_operators.py: every fallback and every private operator against plain arithmetic, whichever this machine uses."""

import platform
import resource
import statistics
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn.functional import gelu, relu

from mcontriever import cpu_operators
from mcontriever.cpu_operators import Int8Linear, PreparedLinear, can_int8, can_prepack, has_int8_product, to_bytes
from mcontriever.processor import instruction_sets
from tests.conftest import COMMAND_SECONDS, REPOSITORY
from tests.warm_processes import run_warm


def small_product() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return tuple(torch.randn(*shape, generator=generator) for shape in ((5, 72), (40, 72), (40,)))


def tanh_gelu(values: torch.Tensor) -> torch.Tensor:
    return gelu(values, approximate="tanh")


@pytest.mark.parametrize("prepack", [False, None])
@pytest.mark.parametrize("fuses", [False, True])
@pytest.mark.parametrize(
    ("activation", "function"), [(None, lambda x: x), ("gelu", gelu), ("gelu_new", tanh_gelu), ("relu", relu)]
)
def test_prepared_linear(
    prepack: bool | None,
    fuses: bool,
    activation: str | None,
    function: Callable[..., torch.Tensor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cpu_operators, "_fuses", lambda activation: fuses)
    values, weight, bias = small_product()
    product = PreparedLinear(weight, bias, activation=activation, prepack=prepack)
    torch.testing.assert_close(product(values), function(values @ weight.T + bias), atol=1e-5, rtol=1e-5)


def test_operators_that_are_missing_or_wrong_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any) -> torch.Tensor:
        raise AttributeError

    def wrong(values: torch.Tensor, weight: torch.Tensor, *_: Any) -> torch.Tensor:
        return torch.zeros(values.shape[0], weight.shape[0])

    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", wrong)
    assert not cpu_operators.has_onednn_product.__wrapped__()
    monkeypatch.setattr(torch.ops.mkldnn, "_reorder_linear_weight", missing)
    assert not can_prepack.__wrapped__(torch.float32)
    monkeypatch.setattr(torch.ops.mkldnn, "_reorder_linear_weight", lambda weight, _: weight)
    assert not can_prepack.__wrapped__(torch.float32)
    monkeypatch.setattr(torch.ops.onednn, "qlinear_prepack", missing)
    assert not can_int8.__wrapped__()


@pytest.mark.parametrize("native", [False, None])
@pytest.mark.parametrize("largest", [False, True])
def test_int8_linear(native: bool | None, largest: bool) -> None:
    """Also where bytes and weights are as large as they can be: without VNNI such products saturate."""
    values, weight, bias = small_product()
    if largest:
        values, weight = torch.full_like(values, 3.0), torch.full_like(weight, 2.0)
    scale, zero_point = 3.0 / 127, 128
    found_bytes = to_bytes(values, 1 / scale, zero_point)
    assert torch.equal(found_bytes.int(), (values / scale).round().clamp(-128, 127).int() + 128)
    steps = weight.abs().amax(1, keepdim=True).double() / 127
    rounded = (weight / steps.float()).round().double() * steps
    exact = (found_bytes.double() - zero_point) * scale @ rounded.T + bias
    product = Int8Linear(weight, bias, scale, zero_point, native=native)
    torch.testing.assert_close(product(found_bytes).double(), exact, atol=1e-3, rtol=1e-4)
    residual = torch.ones(5, 40)
    torch.testing.assert_close(product.plus(found_bytes, residual).double(), exact + 1, atol=1e-3, rtol=1e-4)
    outputs = product.activated(found_bytes, "gelu", 0.25, 10).int()
    assert ((outputs - (gelu(exact) / 0.25 + 10).round().clamp(0, 255)).abs() <= 1).all()
    assert outputs.max() > 20


@pytest.mark.parametrize("native", [False, True])
def test_multiply_float32(native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not native:
        monkeypatch.setattr(cpu_operators, "has_onednn_product", lambda: False)
    rows, keys, _ = small_product()
    torch.testing.assert_close(
        cpu_operators.multiply_float32(rows, keys).double(), rows.double() @ keys.double().T, atol=2e-5, rtol=0
    )


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("dimension", [8, 48, 1100])
def test_multiply_int8(native: bool, dimension: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest sums are exact. Torch's own is right everywhere but where VNNI is there and forbidden."""
    is_forbidden = bool(torch.cpu.get_capabilities().get("avx512_vnni")) and not has_int8_product()
    if native and is_forbidden:
        assert "avx512_vnni" not in instruction_sets()
        return
    monkeypatch.setattr(cpu_operators, "has_int8_product", lambda: native)
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(-127, 128, (33, dimension), dtype=torch.int8, generator=generator)
    queries = torch.randint(-127, 128, (17, dimension), dtype=torch.int8, generator=generator)
    rows[3] = queries[5] = 127
    found = torch.empty(33, 17, dtype=torch.int32)
    cpu_operators.multiply_int8(rows, queries, found)
    assert torch.equal(found.long(), rows.long() @ queries.long().T)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8])
def test_multiply_rows(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    rows, queries = (torch.randint(-9, 10, (size, 48), generator=generator).to(dtype) for size in (33, 17))
    found = torch.empty(33, 17, dtype=torch.int32 if dtype == torch.int8 else dtype)
    cpu_operators.multiply_rows(rows, queries, found)
    exact = rows.double() @ queries.double().T
    torch.testing.assert_close(found.double(), exact, atol=0, rtol=2**-8 if dtype == torch.bfloat16 else 0)


@pytest.mark.parametrize("gradient_of", [cpu_operators.softmax_gradient, cpu_operators.plain_softmax_gradient])
def test_softmax_gradient(gradient_of: Callable[..., torch.Tensor]) -> None:
    scores, gradient, _ = small_product()
    scores.requires_grad_(True)
    probabilities = scores.softmax(-1)
    probabilities.backward(gradient[:5])
    assert scores.grad is not None
    torch.testing.assert_close(gradient_of(gradient[:5], probabilities.detach()), scores.grad)


FRESH_PAGES = """
import resource, threading
import torch
from mcontriever.freed_memory import keep_freed_memory

def fresh_pages(rounds):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        torch.ones(9_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

torch.set_num_threads(1)
if KEEP:
    keep_freed_memory()
fresh_pages(15)
print(fresh_pages(3))
threads = [threading.Thread(target=lambda: (fresh_pages(15), print(fresh_pages(3)))) for _ in range(2)]
for thread in threads:
    thread.start()
    thread.join()
"""


def fresh_pages_of_three(keep: bool) -> list[int]:
    """In the first thread and in two others of a process whose allocator nobody has set before."""
    program = f"KEEP = {keep}\n{FRESH_PAGES}"
    done = run_warm(["python", "-c", program], REPOSITORY, {}, COMMAND_SECONDS)
    assert done.returncode == 0, done.stderr
    found = [int(line) for line in done.stdout.split()]
    assert len(found) == 3
    return found


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator has these settings")
def test_large_blocks_are_used_again() -> None:
    pages_of_three = 3 * 36_000_000 // resource.getpagesize()
    kept, left = (fresh_pages_of_three(keep) for keep in (True, False))
    assert statistics.median(kept) < pages_of_three / 100  # a block may once find its place taken
    assert min(left) > pages_of_three / 2
