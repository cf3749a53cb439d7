"""The light tokenizer beside transformers' own: the same pieces, the same fingerprint, and all else on demand."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mcontriever.encoder import Encoder
from mcontriever.encoder.tokenizer_without_transformers import LightTokenizer, load_light_tokenizer
from mcontriever.preparation.vocabulary import train_tokenizer
from mcontriever.shipped import BUNDLED_FOLDER
from mcontriever.tokens import SpecialTokens, load_tokenizer, tokenize_texts, tokenizer_fingerprint


@pytest.fixture(scope="module", params=["nano", "small"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if request.param == "nano":
        return BUNDLED_FOLDER
    from tests.conftest import SENTENCES

    return train_tokenizer(SENTENCES, tmp_path_factory.mktemp("light") / "tokenizer", 200)


def test_it_cuts_texts_as_the_full_one_does(folder: Path, sentences: dict[str, list[str]]) -> None:
    light, full = load_light_tokenizer(folder), load_tokenizer(folder)
    assert light is not None
    assert tokenizer_fingerprint(light) == tokenizer_fingerprint(full)
    assert SpecialTokens.of(light) == SpecialTokens.of(full)
    assert len(light) == len(full)
    texts = [text for group in sentences.values() for text in group]
    for ours, theirs in zip(tokenize_texts(light, texts, 64), tokenize_texts(full, texts, 64), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert light.get_vocab() == full.get_vocab()  # not of its own
    assert light(texts, add_special_tokens=False)["input_ids"] == full(texts, add_special_tokens=False)["input_ids"]


def test_a_tokenizer_of_which_transformers_knows_more_is_left_to_it(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (tmp_path / "copy" / "tokenizer_config.json").write_text(
        json.dumps({**settings, "tokenizer_class": "BertTokenizer"})
    )
    assert load_light_tokenizer(tmp_path / "copy") is None
    (tmp_path / "copy" / "tokenizer_config.json").unlink()
    assert load_light_tokenizer(tmp_path / "copy") is None


def test_a_light_encoder_is_the_same_encoder(sentences: dict[str, list[str]]) -> None:
    light, full = Encoder.load("nano", light=True), Encoder.load("nano", light=False)
    assert isinstance(light.tokenizer, LightTokenizer)
    assert light.fingerprint() == full.fingerprint()
    np.testing.assert_allclose(light.embed_queries(sentences["ar"]), full.embed_queries(sentences["ar"]), atol=1e-6)


def test_a_light_encoder_needs_no_transformers() -> None:
    code = "import sys; from mcontriever import Encoder; e = Encoder.load('nano', light=True); e.fingerprint(); "
    code += "e.embed_queries(['a']); sys.exit('transformers' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
