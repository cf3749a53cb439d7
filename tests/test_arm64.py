"""What is chosen on arm64, from what torch and Linux say of three such processors. Nothing here multiplies on one."""

from pathlib import Path
from typing import Any

import pytest
import torch

from mcontriever import cpu_operators, processor
from mcontriever.encoder import cpu_int8, texts_to_vectors
from mcontriever.retrieval.vector_search import rounded_block

# In torch 2.13's words, less caches and ciphers. The second is what it said of an emulated one.
CORTEX_A72 = {"architecture": "arm64", "cpu_name": "Unknown", "neon": True, "crc32": True}
NEOVERSE_N1 = CORTEX_A72 | {"dot": True, "atomics": True, "fp16_arith": True, "bf16": False, "i8mm": False}
NEOVERSE_V1 = NEOVERSE_N1 | {"bf16": True, "i8mm": True, "sve": True, "sve_bf16": True, "sve_max_length": 256}

CPUINFO = """processor\t: 0
BogoMIPS\t: 243.75
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp ssbs
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x3
CPU part\t: 0xd0c
CPU revision\t: 1
"""


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> dict[str, Any]:
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    monkeypatch.delenv("ATEN_CPU_CAPABILITY", raising=False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: request.param)
    return dict(request.param)


@pytest.mark.parametrize(
    ("says", "sets", "native"),
    [
        (CORTEX_A72, {"neon"}, False),
        (NEOVERSE_N1, {"neon", "dot"}, False),
        (NEOVERSE_V1, {"neon", "dot", "sve", "bf16", "i8mm"}, True),
    ],
    indirect=["says"],
)
def test_instruction_sets(says: dict[str, Any], sets: set[str], native: bool) -> None:
    assert processor.instruction_sets() == sets
    assert (processor.multiplies_int8(), processor.multiplies_bf16()) == (native, native)
    assert processor.is_arm64()
    assert not cpu_operators.has_int8_product.__wrapped__()


def test_the_name_is_in_numbers(tmp_path: Path) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(CPUINFO)
    assert processor.processor_name(path) == "arm64, implementer 0x41, part 0xd0c"
    path.write_text("processor\t: 0\nmodel name\t: AMD EPYC 7763 64-Core Processor\nflags\t\t: avx2\n")
    assert processor.processor_name(path) == "AMD EPYC 7763 64-Core Processor"
    assert processor.processor_name(tmp_path / "none")


@pytest.mark.parametrize("says", [NEOVERSE_N1, NEOVERSE_V1], indirect=True)
def test_no_product_is_left_to_onednns_reference(says: dict[str, Any]) -> None:
    """They are right, and as slow as a plain loop, so trying them does not tell."""
    assert not cpu_operators.can_prepack.__wrapped__(torch.bfloat16)
    assert not cpu_operators.has_onednn_product.__wrapped__()


@pytest.mark.parametrize("says", [NEOVERSE_N1], indirect=True)
def test_rows_of_a_search_stay_in_float32_without_bf16(says: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounded_block, "has_int8_product", cpu_operators.has_int8_product.__wrapped__)
    assert rounded_block.product_type(torch.device("cpu"), 384) == torch.float32


@pytest.mark.parametrize(
    ("says", "reason"),
    [
        (NEOVERSE_N1, "int8: this processor has no i8mm, so products run in float32"),
        (NEOVERSE_V1, "int8: torch's 8-bit products are wrong here, so products run in float32"),
    ],
    indirect=["says"],
)
def test_why_int8_runs_in_float32(says: dict[str, Any], reason: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING", "mcontriever"):
        cpu_int8._warn_without_int8.__wrapped__()
    assert caplog.messages[0].startswith(reason)


@pytest.mark.parametrize(
    ("says", "used", "reason"),
    [
        (NEOVERSE_N1, "float32", "emulates bf16"),
        (NEOVERSE_V1, "float32", "multiplies float32 faster"),
        (NEOVERSE_V1, "bfloat16", "has bf16"),
    ],
    indirect=["says"],
)
def test_why_auto_chose(says: dict[str, Any], used: str, reason: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "mcontriever"):
        texts_to_vectors._report_cpu_precision.__wrapped__("auto", used)
    assert caplog.messages == [f"precision auto: {used}, because this processor {reason}"]
