"""processor.py: what torch sees of this processor, less what the environment forbids."""

import pytest
import torch

from mcontriever import processor

ASK = "from mcontriever import processor; print(processor.multiplies_int8(), processor.multiplies_bf16())"
ASK_LIBRARIES = """
import torch
from mcontriever.cpu_operators import can_int8, has_int8_product
print(torch.backends.cpu.get_cpu_capability(), can_int8(), has_int8_product())
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
