"""A byte of a model that has flipped is noticed when it is loaded, and by `mcontriever verify`."""

import shutil
import time
from pathlib import Path

import pytest

from mcontriever import checksums
from mcontriever.encoder import Encoder
from mcontriever.encoder.model_checksums import CHECKSUMS, verify_model
from mcontriever.encoder.token_encoder import TokenEncoder
from mcontriever.errors import ModelError
from mcontriever.shipped import BUNDLED, bundled_folder
from mcontriever.training.compact_weights import compact_weights
from tests.attack.damage import ANY_FILE
from tests.conftest import RunCli


@pytest.fixture
def model(tmp_path: Path, tiny_encoder_dir: Path) -> Path:
    return Path(shutil.copytree(tiny_encoder_dir, tmp_path / "model"))


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json"])
def test_a_flipped_byte_is_noticed(model: Path, file: str, cli: RunCli) -> None:
    assert cli("verify", model).returncode == 0
    Encoder.load(model)
    ANY_FILE["middle byte"](model / file)
    with pytest.raises(ModelError, match=f"{file} is not the file that was written"):
        Encoder.load(model)
    shown = cli("verify", model)
    assert shown.returncode == 2
    assert f"{file} is not the file that was written" in shown.stderr


def test_a_large_file_is_read_in_the_background(
    model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(checksums, "CHECKED_AT_ONCE_BYTES", 0)
    ANY_FILE["middle byte"](model / "model.safetensors")
    Encoder.load(model)
    deadline = time.monotonic() + 60
    while "results are wrong: export or download the model again" not in caplog.text:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_others_wrote_has_no_checksums(model: Path, cli: RunCli) -> None:
    (model / CHECKSUMS).unlink()
    Encoder.load(model)
    shown = cli("verify", model)
    assert shown.returncode == 2
    assert "nothing tells what its files were" in shown.stderr


def test_each_way_of_writing_a_model_keeps_them(model: Path, tmp_path: Path) -> None:
    compact_weights(model, "float16")
    assert verify_model(model) == 2
    several = TokenEncoder.load(model).save(tmp_path / "several")
    assert verify_model(several) == 3
    ANY_FILE["middle byte"](several / "1_Dense" / "model.safetensors")
    with pytest.raises(ModelError, match="is not the file that was written"):
        TokenEncoder.load(several)


@pytest.mark.parametrize("name", BUNDLED)
def test_the_models_that_come_along_are_whole(name: str) -> None:
    assert verify_model(bundled_folder(name)) == 2
