"""Exporting a checkpoint: what is taken, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from mcontriever import export
from mcontriever.encoder import Encoder
from mcontriever.errors import StoreError


def make_run(run: Path, encoder_folder: Path, steps: tuple[int, ...]) -> Path:
    """The parts of a run that exporting reads."""
    for step in steps:
        checkpoint = run / "checkpoints" / f"step-{step:08}"
        encoder = Encoder.load(encoder_folder)
        encoder.save(checkpoint / "model", card=f"# step {step}", attachments={"training.yaml": b"stage: pretrain\n"})
        (checkpoint / "state.json").write_text(json.dumps({"step": step, "samples": 8 * step}))
    return run


def test_a_run_gives_its_newest_checkpoint_and_a_checkpoint_itself(tmp_path: Path, tiny_encoder_dir: Path) -> None:
    run = make_run(tmp_path / "run", tiny_encoder_dir, steps=(5, 10, 100))
    for given, step in ((run, 100), (run / "checkpoints", 100), (run / "checkpoints" / "step-00000005", 5)):
        export.run(given, tmp_path / "out", overwrite=True)
        assert (tmp_path / "out" / "README.md").read_text() == f"# step {step}"
        assert (tmp_path / "out" / "training.yaml").read_text() == "stage: pretrain\n"
    texts = ["one text", "another text"]
    expected = Encoder.load(tiny_encoder_dir).embed_documents(texts)
    np.testing.assert_array_equal(Encoder.load(tmp_path / "out").embed_documents(texts), expected)


def test_what_is_no_checkpoint_is_refused(tmp_path: Path, tiny_encoder_dir: Path) -> None:
    with pytest.raises(StoreError, match="no such folder"):
        export.run(str(tmp_path / "nowhere"), tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(StoreError, match="no checkpoint of a training run"):
        export.run(str(tmp_path / "empty"), tmp_path / "out")
    run = make_run(tmp_path / "run", tiny_encoder_dir, steps=(1,))
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").write_bytes(b"")
    with pytest.raises(StoreError, match="is not empty and is not a model: it holds cat"):
        export.run(str(run), tmp_path / "photos")
