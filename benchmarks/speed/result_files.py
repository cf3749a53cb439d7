"""What the scripts of this folder do with their figures: facts of the machine beside them, and the file they go to."""

import json
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mcontriever.doctor import HELD_DOWN_BY
from mcontriever.processor import instruction_sets, processor_name

RESULTS = Path(__file__).parent / "results"


def machine_facts(*libraries: str, device: str = "cpu") -> dict[str, Any]:
    """What a figure depends on, with the versions of `libraries`."""
    torch = sys.modules.get("torch")
    threads = {"threads": torch.get_num_threads()} if torch else {}
    gpu = {"gpu": torch.cuda.get_device_name()} if torch and device == "cuda" else {}
    return {
        "processor": processor_name(),
        "instruction_sets": sorted(instruction_sets()),
        "cores": len(os.sched_getaffinity(0)),
        **threads,
        **gpu,
        **held_down(),
        "python": platform.python_version(),
        **{name: version(name) for name in libraries},
    }


def held_down() -> dict[str, str]:
    """Variables that forbid instruction sets to torch's libraries, FAISS and its OpenBLAS."""
    names = (*HELD_DOWN_BY, "FAISS_OPT_LEVEL", "OPENBLAS_CORETYPE")
    return {name: os.environ[name] for name in names if name in os.environ and name != "OMP_NUM_THREADS"}


def show_and_keep(report: dict[str, Any], path: Path | None) -> None:
    """Print it, and write it to `path` if there is one."""
    print(json.dumps(report, indent=2))
    keep(report, path)


def keep(report: dict[str, Any], path: Path | None) -> None:
    if path:
        path.write_text(json.dumps(report, indent=2) + "\n")
