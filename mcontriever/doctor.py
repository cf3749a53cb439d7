"""What this machine has and can reach: a screen for a bug report.

mcontriever doctor [--json]
"""

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import timeit
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch

from mcontriever import processor
from mcontriever.cpu_operators import Int8Linear, PreparedLinear, can_int8, can_prepack
from mcontriever.errors import HubError
from mcontriever.hosts import require_host
from mcontriever.progress import log

VERSIONS = ("torch", "transformers", "tokenizers", "sentence-transformers", "deepspeed", "faiss-cpu", "mteb", "numpy")
HELD_DOWN_BY = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS", "OMP_NUM_THREADS")
PRECISION_SECONDS = 1.0
LAUNCHER_SECONDS = 120
GIB = 1 << 30

Found = dict[str, dict[str, Any]]


def run() -> Found:
    log.info("measuring for a few seconds ...")
    return {
        "versions": _versions(),
        "processor": _processor(),
        "memory and disk": _memory_and_disk(),
        "GPUs": _gpus(),
        "precisions": _precisions(),
        "training": _training(),
        "extras": _extras(),
        "hub": _hub(),
    }


def as_text(found: Found) -> str:
    """One line per value, under its section."""
    width = max(len(name) for section in found.values() for name in section)
    lines = []
    for section, values in found.items():
        lines.append(section)
        lines += [f"  {name:<{width}}  {_shown(value)}" for name, value in values.items()]
    return "\n".join(lines)


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else str(value)


def _versions() -> dict[str, Any]:
    found = {"mcontriever": _version("mcontriever"), "Python": platform.python_version(), "system": platform.platform()}
    return found | {name: _version(name) for name in VERSIONS}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def _processor() -> dict[str, Any]:
    found = {
        "name": processor.processor_name(),
        "instruction sets": sorted(processor.instruction_sets()),
        "torch's kernels": torch.backends.cpu.get_cpu_capability(),
        "native bfloat16": processor.multiplies_bf16(),
        "native int8": processor.multiplies_int8(),
        "cores": os.cpu_count(),
        "cores for this process": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else "unknown",
        "threads of torch": torch.get_num_threads(),
        "weights laid out for oneDNN": can_prepack(torch.float32),
    }
    return found | {name: os.environ[name] for name in HELD_DOWN_BY if name in os.environ}


def _memory_and_disk() -> dict[str, Any]:
    memory = psutil.virtual_memory()
    found = {"memory, GiB": round(memory.total / GIB, 1), "free memory, GiB": round(memory.available / GIB, 1)}
    for name, folder in (("here", Path.cwd()), ("temporary files", Path(tempfile.gettempdir()))):
        found[f"free disk {name}, GiB"] = round(shutil.disk_usage(folder).free / GIB, 1)
    return found


def _gpus() -> dict[str, Any]:
    if not torch.cuda.is_available():
        return {"count": 0}
    found: dict[str, Any] = {"count": torch.cuda.device_count(), "CUDA of torch": torch.version.cuda}
    for index in range(torch.cuda.device_count()):
        values = torch.cuda.get_device_properties(index)
        capability = f"{values.major}.{values.minor}"
        found[f"GPU {index}"] = f"{values.name}, {values.total_memory / GIB:.0f} GiB, capability {capability}"
    return found


def _precisions() -> dict[str, Any]:
    """Billions of operations a second, in a product of the size of an encoder's layer."""
    cuda = torch.cuda.is_available()
    rows, inputs, outputs = (16_384, 4096, 4096) if cuda else (2048, 384, 1536)
    operations = 2 * rows * inputs * outputs
    products = _gpu_products(rows, inputs, outputs) if cuda else _cpu_products(rows, inputs, outputs)
    unit = "GPU 0" if cuda else "all cores"
    return {f"{name}, GFLOP/s ({unit})": round(operations / _seconds(run) / 1e9, 1) for name, run in products.items()}


def _gpu_products(rows: int, inputs: int, outputs: int) -> dict[str, Callable[[], object]]:
    def product(dtype: torch.dtype) -> Callable[[], object]:
        values = torch.ones(rows, inputs, dtype=dtype, device="cuda")
        weight = torch.ones(inputs, outputs, dtype=dtype, device="cuda")

        def multiply() -> None:
            torch.mm(values, weight)
            torch.cuda.synchronize()

        return multiply

    return {name: product(getattr(torch, name)) for name in ("float32", "bfloat16", "float16")}


def _cpu_products(rows: int, inputs: int, outputs: int) -> dict[str, Callable[[], object]]:
    values, weight, bias = torch.ones(rows, inputs), torch.ones(outputs, inputs), torch.ones(outputs)
    found: dict[str, Callable[[], object]] = {}
    for dtype in (torch.float32, torch.bfloat16):
        linear, low = PreparedLinear(weight, bias, dtype=dtype), values.to(dtype)
        found[str(dtype).removeprefix("torch.")] = lambda linear=linear, low=low: linear(low)  # type: ignore[misc]
    int8, low = Int8Linear(weight, bias, 1.0, 128), values.to(torch.uint8)
    found["int8" if can_int8() else "int8 (in float32)"] = lambda: int8(low)
    return found


def _seconds(run: Callable[[], object]) -> float:
    """The best of as many as fit into PRECISION_SECONDS."""
    with torch.inference_mode():
        once = min(timeit.repeat(run, number=1, repeat=2))
        return min(once, *timeit.repeat(run, number=1, repeat=max(1, min(100, int(PRECISION_SECONDS / once)))))


def _training() -> dict[str, Any]:
    launcher = Path(sys.executable).with_name("deepspeed")
    found: dict[str, Any] = {"DeepSpeed's launcher": "missing: pip install deepspeed (Linux)"}
    if launcher.exists():
        problem = _problem_of([str(launcher), "--help"])
        found["DeepSpeed's launcher"] = problem or "works"
    compiler = shutil.which("g++") or shutil.which("c++")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "empty.cpp")
        source.write_text("int main() { return 0; }\n")
        problem = _problem_of([compiler, str(source), "-o", str(source.with_suffix(""))]) if compiler else "missing"
    found["C++ compiler"] = problem or "works"
    found["ninja"] = "works" if shutil.which("ninja") or _version("ninja") != "missing" else "missing"
    return found


def _problem_of(command: list[str]) -> str | None:
    """The last line that a failing command wrote."""
    environment = {**os.environ, "DS_ACCELERATOR": "cuda" if torch.cuda.is_available() else "cpu"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=LAUNCHER_SECONDS, check=False, env=environment
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"fails: {error}"
    if done.returncode == 0:
        return None
    return f"fails: {(done.stderr.strip().splitlines() or [f'exit code {done.returncode}'])[-1]}"


def _extras() -> dict[str, Any]:
    """Each extra of the package, with what it lacks."""
    needed: dict[str, list[str]] = {}
    for requirement in importlib.metadata.requires("mcontriever") or []:
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", requirement)
        if extra and extra[1] != "test":
            needed.setdefault(extra[1], []).append(re.split(r"[\s<>=!~;\[]", requirement)[0])
    missing = {extra: [name for name in names if _version(name) == "missing"] for extra, names in needed.items()}
    return {
        extra: f"missing {', '.join(names)}: pip install 'mcontriever[{extra}]'" if names else "installed"
        for extra, names in missing.items()
    }


def _hub() -> dict[str, Any]:
    from huggingface_hub import constants

    found: dict[str, Any] = {"endpoint": constants.ENDPOINT, "cache": constants.HF_HUB_CACHE}
    if constants.HF_HUB_OFFLINE:
        return found | {"reachable": "not tried: HF_HUB_OFFLINE is set"}
    try:
        require_host(constants.ENDPOINT, "")
    except HubError as error:
        return found | {"reachable": f"no: {error.what}"}
    return found | {"reachable": True}
