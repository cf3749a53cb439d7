"""without_transformers.py beside transformers: the same embeddings, pieces and fingerprints, or None."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mcontriever.encoder import Encoder
from mcontriever.encoder.without_transformers import LightTokenizer, load_light_backbone, load_light_tokenizer
from mcontriever.preparation.vocabulary import train_tokenizer
from mcontriever.shipped import bundled_folder
from mcontriever.tokens import SpecialTokens, load_tokenizer, tokenize_texts, tokenizer_fingerprint
from tests.retrieval.small_corpora import make_store, mixed_documents

TEXTS = ["The river rises in the hills.", "ينبع النهر من التلال", "", "nine " * 200]


@pytest.mark.parametrize("model_type", ["xlm-roberta", "bert"])
def test_the_same_embeddings_and_fingerprint(tmp_path: Path, tiny_tokenizer_dir: Path, model_type: str) -> None:
    architecture = {
        "model_type": model_type,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "initializer_range": 0.3,
    }
    tokenizer = load_tokenizer(str(tiny_tokenizer_dir))
    Encoder.from_random(architecture, tokenizer, seed=3, max_length=128).save(tmp_path / "model")
    assert load_light_backbone(tmp_path / "model") is not None
    light, ordinary = Encoder.load(tmp_path / "model", light=True), Encoder.load(tmp_path / "model")
    assert light.fingerprint() == ordinary.fingerprint()
    np.testing.assert_array_equal(light.embed_queries(TEXTS), ordinary.embed_queries(TEXTS))
    light.save(tmp_path / "saved")
    assert Encoder.load(tmp_path / "saved").fingerprint() == ordinary.fingerprint()


def test_what_it_does_not_know_is_loaded_the_ordinary_way(tmp_path: Path, tiny_tokenizer_dir: Path) -> None:
    from transformers import DistilBertConfig, DistilBertModel

    tokenizer = load_tokenizer(str(tiny_tokenizer_dir))
    config = DistilBertConfig(vocab_size=len(tokenizer), dim=16, n_layers=1, n_heads=2, hidden_dim=32)
    DistilBertModel(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert load_light_backbone(tmp_path) is None
    assert Encoder.load(tmp_path, light=True).embed_queries(TEXTS).shape == (4, 16)
    assert load_light_backbone(tmp_path / "nowhere") is None


@pytest.mark.parametrize(
    "value", [("layer_norm_eps", "path"), ("hidden_dropout_prob", True), ("num_hidden_layers", 2.0)]
)
def test_a_number_of_another_kind_is_left_to_the_ordinary_way(
    tmp_path: Path, tiny_encoder_dir: Path, value: tuple[str, object]
) -> None:
    Encoder.load(tiny_encoder_dir).save(tmp_path / "model")
    assert load_light_backbone(tmp_path / "model") is not None
    config = tmp_path / "model" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), value[0]: value[1]}))
    assert load_light_backbone(tmp_path / "model") is None


def test_weights_that_do_not_match_are_left_to_the_ordinary_way_to_explain(
    tmp_path: Path, tiny_encoder_dir: Path
) -> None:
    from safetensors.torch import load_file, save_file

    Encoder.load(tiny_encoder_dir).save(tmp_path / "model")
    weights = load_file(tmp_path / "model" / "model.safetensors")
    weights.pop("embeddings.LayerNorm.bias")
    save_file({**weights, "stranger": torch.zeros(1)}, tmp_path / "model" / "model.safetensors")
    assert load_light_backbone(tmp_path / "model") is None


@pytest.fixture(scope="module", params=["nano", "small"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if request.param == "nano":
        return bundled_folder("nano")
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


def test_it_needs_none_of_the_slow_imports(tiny_encoder_dir: Path, tmp_path: Path) -> None:
    """Nor does a search, for which pyarrow would import pandas."""
    make_store(tmp_path / "store", mixed_documents(12), Encoder.load(tiny_encoder_dir), model=str(tiny_encoder_dir))
    script = (
        "import sys\nfrom mcontriever import Encoder\n"
        "encoder = Encoder.load('nano', light=True)\nencoder.fingerprint()\nencoder.embed_queries(['a'])\n"
        "from mcontriever.cli import main\n"
        f"try:\n  main(['search', {str(tmp_path / 'store')!r}, 'moons', '--json'])\nexcept SystemExit as end:\n"
        "  assert not end.code\n"
        "slow = ('torch._dynamo', 'torch.distributed.tensor', 'transformers', 'pandas')\n"
        "print([name for name in slow if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    *hits, slow = done.stdout.splitlines()
    assert json.loads(hits[0])["rank"] == 1
    assert slow == "[]"
