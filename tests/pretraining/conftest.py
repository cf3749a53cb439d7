"""A tiny encoder without dropout, and batches of pairs for it."""

from pathlib import Path
from typing import Any

import pytest

from tests.pretraining.tiny_pairs import new_encoder


@pytest.fixture
def encoder(tiny_tokenizer_dir: Path) -> Any:
    return new_encoder(tiny_tokenizer_dir)
