"""processor.py: what torch sees of this processor, less what the environment forbids."""

import os
import platform
import subprocess
import sys

import pytest
import torch

from mcontriever import processor

PRODUCT = """
import torch
from mcontriever.cpu_operators import PreparedLinear, can_int8, has_int8_product
from mcontriever.processor import multiplies_bf16, multiplies_int8
PreparedLinear(torch.ones(32, 64), torch.ones(32))(torch.ones(16, 64))
torch.ones(64, 64) @ torch.ones(64, 64)
print("capability", torch.backends.cpu.get_cpu_capability())
print("native", multiplies_int8(), multiplies_bf16(), can_int8(), has_int8_product())
"""


def test_instruction_sets_are_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    monkeypatch.delenv("ATEN_CPU_CAPABILITY", raising=False)
    found, capabilities = processor.instruction_sets(), torch.cpu.get_capabilities()
    assert all(capabilities[name] is True for name in found)
    assert ("avx2" in found) == bool(capabilities.get("avx2"))
    assert processor.multiplies_int8() == any(capabilities.get(name) for name in processor.INT8)
    assert processor.multiplies_bf16() == any(capabilities.get(name) for name in processor.BF16)


@pytest.mark.parametrize(
    ("limit", "allowed"),
    [("AVX2", (False, False)), ("AVX512_CORE_VNNI", (True, False)), ("AVX512_CORE_BF16", (True, True))],
)
def test_an_instruction_set_held_down_counts_as_missing(
    monkeypatch: pytest.MonkeyPatch, limit: str, allowed: tuple[bool, bool]
) -> None:
    """A processor that has all of it, by what torch would say of one."""
    everything = dict.fromkeys(processor.INT8 | processor.BF16 | processor.NAMED, True)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: everything)
    monkeypatch.delenv("ATEN_CPU_CAPABILITY", raising=False)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    assert (processor.multiplies_int8(), processor.multiplies_bf16()) == allowed
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    assert (processor.multiplies_int8(), processor.multiplies_bf16()) == (False, False)
    monkeypatch.delenv("ATEN_CPU_CAPABILITY")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "ALL")
    assert (processor.multiplies_int8(), processor.multiplies_bf16()) == (True, True)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the variables are for x86-64")
@pytest.mark.parametrize(
    ("aten", "onednn", "mkl", "capability", "isa"),
    [
        ("avx2", "AVX2", "AVX2", "AVX2", "isa:Intel AVX2\n"),
        ("default", "SSE41", "SSE4_2", "DEFAULT", "isa:Intel SSE4.1\n"),
    ],
)
def test_torchs_libraries_obey_the_limits(aten: str, onednn: str, mkl: str, capability: str, isa: str) -> None:
    """So `make test-avx2` runs what an AVX2 machine runs: ATen says what it uses, oneDNN and MKL log it.

    On processors that are not Intel's MKL never uses more than AVX2, and says only "Intel Architecture processors".
    """
    limits = {"ATEN_CPU_CAPABILITY": aten, "ONEDNN_MAX_CPU_ISA": onednn, "MKL_ENABLE_INSTRUCTIONS": mkl}
    limits |= {"ONEDNN_VERBOSE": "1", "MKL_VERBOSE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PRODUCT], env={**os.environ, **limits}, capture_output=True, text=True, check=True
    )
    assert f"capability {capability}\n" in done.stdout
    assert "native False False False False\n" in done.stdout
    assert isa in done.stdout
    assert not [line for line in done.stdout.splitlines() if line.startswith("MKL_VERBOSE") and "AVX-512" in line]
