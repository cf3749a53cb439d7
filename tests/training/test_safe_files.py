"""DeepSpeed's files are read without running code, whichever Python wrote them."""

from pathlib import Path
from typing import Any

import pytest
from deepspeed.runtime.zero.config import ZeroStageEnum

from mcontriever.training.safe_files import SafeFiles


def test_a_stage_of_zero_is_stored_by_its_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python 3.11.0 to 3.11.3 would store a member of an enumeration as this call."""

    def as_a_call_of_getattr(self: ZeroStageEnum, _protocol: Any) -> tuple[Any, ...]:
        return getattr, (type(self), self.name)

    monkeypatch.setattr(ZeroStageEnum, "__reduce_ex__", as_a_call_of_getattr)
    files, path = SafeFiles(), str(tmp_path / "state.pt")
    files.save({"zero_stage": ZeroStageEnum.gradients}, path)
    assert files.write_error is None
    assert files.load(path) == {"zero_stage": ZeroStageEnum.gradients}
