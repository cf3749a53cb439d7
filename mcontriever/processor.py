"""What this processor computes fast. Choices of precision depend on this and on nothing else.

ONEDNN_MAX_CPU_ISA and ATEN_CPU_CAPABILITY hold torch's libraries down to older instruction sets. What they forbid
counts as missing here too, so one machine can test the choices of another.
"""

import os
import platform
from pathlib import Path

import torch

INT8 = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "i8mm"})
BF16 = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
NAMED = frozenset({"avx2", "fma3", "avx512_f", "avx512_vl", "avx512_bw", "avx512_dq", "avx512_fp16", "amx_tile"})
ARM_NAMED = frozenset({"neon", "dot", "sve", "sve2"})
# What each limit of ONEDNN_MAX_CPU_ISA still allows; a limit that is not here allows everything.
_ALLOWED_BY_ONEDNN = {
    "SSE41": frozenset[str](),
    "AVX": frozenset[str](),
    "AVX2": frozenset({"avx2", "fma3"}),
    "AVX2_VNNI": frozenset({"avx2", "fma3", "avx_vnni"}),
    "AVX512_CORE": frozenset({"avx2", "fma3", "avx512_f", "avx512_vl", "avx512_bw", "avx512_dq"}),
}
_ALLOWED_BY_ONEDNN["AVX512_CORE_VNNI"] = _ALLOWED_BY_ONEDNN["AVX512_CORE"] | {"avx512_vnni", "avx_vnni"}
_ALLOWED_BY_ONEDNN["AVX512_CORE_BF16"] = _ALLOWED_BY_ONEDNN["AVX512_CORE_VNNI"] | {"avx512_bf16"}
_ALLOWED_BY_ATEN = {"default": frozenset[str](), "avx2": frozenset({"avx2", "fma3"})}


def instruction_sets() -> frozenset[str]:
    """Those that matter for products, as torch names them, and that no environment variable forbids."""
    found = {name for name, has in torch.cpu.get_capabilities().items() if has is True}
    found &= INT8 | BF16 | NAMED | ARM_NAMED
    for variable, allowed in (("ONEDNN_MAX_CPU_ISA", _ALLOWED_BY_ONEDNN), ("ATEN_CPU_CAPABILITY", _ALLOWED_BY_ATEN)):
        limit = os.environ.get(variable, "")
        found &= allowed.get(limit.upper() if variable.startswith("ONEDNN") else limit.lower(), found)
    return frozenset(found)


def processor_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Its model; Linux on arm64 knows only the numbers of its maker and part."""
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    found = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    if "CPU part" in found:
        return f"arm64, implementer {found.get('CPU implementer')}, part {found['CPU part']}"
    return found.get("model name") or platform.processor() or platform.machine()


def multiplies_int8() -> bool:
    """Whether 8-bit products are native. Without VNNI they are as slow as float32's, and saturate."""
    return not INT8.isdisjoint(instruction_sets())


def missing_int8() -> str:
    """What a processor without 8-bit products would need."""
    return "i8mm" if is_arm64() else "VNNI"


def is_arm64() -> bool:
    return torch.cpu.get_capabilities().get("architecture") == "arm64"


def multiplies_bf16() -> bool:
    """Whether bf16 products are native. Emulated ones are several times slower than float32's."""
    return not BF16.isdisjoint(instruction_sets())


def trains_in_bf16() -> bool:
    """The same for the device that training uses."""
    return torch.cuda.is_bf16_supported(False) if torch.cuda.is_available() else multiplies_bf16()
