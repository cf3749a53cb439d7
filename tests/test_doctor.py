"""`mcontriever doctor`: one run, compared with what the system itself says."""

import contextlib
import io
import json
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from mcontriever import doctor
from mcontriever.cli import main
from mcontriever.processor import multiplies_bf16, multiplies_int8


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """With a compiler that fails, and no hub."""
    folder = tmp_path_factory.mktemp("tools")
    compiler = folder / "g++"
    compiler.write_text("#!/bin/sh\necho 'no such header' >&2\nexit 1\n")
    compiler.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(folder), prepend=os.pathsep)
        patch.setattr(doctor, "PRECISION_SECONDS", 0.05)
        with contextlib.redirect_stdout(io.StringIO()) as printed, pytest.raises(SystemExit) as end:
            main(["doctor", "--json"])
    assert end.value.code in (None, 0)
    return dict(json.loads(printed.getvalue()))


def test_it_says_what_the_system_says(found: dict[str, Any]) -> None:
    assert found["versions"]["torch"] == version("torch")
    assert found["versions"]["Python"] == platform.python_version()
    assert found["processor"]["native bfloat16"] is multiplies_bf16()
    assert found["processor"]["native int8"] is multiplies_int8()
    assert found["processor"]["cores"] == psutil.cpu_count()
    assert found["memory and disk"]["memory, GiB"] == pytest.approx(psutil.virtual_memory().total / 2**30, abs=0.1)
    assert found["GPUs"]["count"] == torch.cuda.device_count()


def test_every_precision_is_measured(found: dict[str, Any]) -> None:
    names = {name.split(",")[0].split(" ")[0] for name in found["precisions"]}
    assert names == {"float32", "bfloat16", "float16" if torch.cuda.is_available() else "int8"}
    assert all(value > 0 for value in found["precisions"].values())


def test_what_training_needs_is_tried(found: dict[str, Any]) -> None:
    assert found["training"]["DeepSpeed's launcher"] == "works"
    assert found["training"]["C++ compiler"] == "fails: no such header"
    assert found["hub"]["reachable"] == "not tried: HF_HUB_OFFLINE is set"


def test_extras_name_what_is_missing(found: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    extras = {"near-duplicates", "s3", "milvus", "tensorboard", "wandb", "docs", "serve"}
    assert set(found["extras"]) == extras | {"langchain", "llama-index", "haystack", "ray"}
    assert found["extras"]["near-duplicates"] == "installed"  # the test extra brings it
    monkeypatch.setattr(doctor, "_version", lambda package: "missing")
    assert doctor._extras()["s3"] == "missing s3fs: pip install 'mcontriever[s3]'"


def test_as_text(found: dict[str, Any]) -> None:
    lines = doctor.as_text({**found, "processor": {"sets": ["avx2", "fma3"], "native": False}}).splitlines()
    assert "versions" in lines
    assert any(line.split() == ["sets", "avx2,", "fma3"] for line in lines)
    assert any(line.split() == ["native", "no"] for line in lines)


def test_a_hub_out_of_reach_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert doctor._hub()["reachable"].startswith("no: 127.0.0.1 cannot be reached")
