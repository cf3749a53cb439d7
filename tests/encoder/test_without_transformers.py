"""light_backbone.py is the ordinary backbone in all that inference sees, or stands aside."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mcontriever.encoder import Encoder
from mcontriever.encoder.without_transformers import load_light_backbone
from mcontriever.tokens import load_tokenizer

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


def test_weights_that_do_not_match_are_left_to_the_ordinary_way_to_explain(
    tmp_path: Path, tiny_encoder_dir: Path
) -> None:
    from safetensors.torch import load_file, save_file

    Encoder.load(tiny_encoder_dir).save(tmp_path / "model")
    weights = load_file(tmp_path / "model" / "model.safetensors")
    weights.pop("embeddings.LayerNorm.bias")
    save_file({**weights, "stranger": torch.zeros(1)}, tmp_path / "model" / "model.safetensors")
    assert load_light_backbone(tmp_path / "model") is None


def test_it_needs_none_of_the_slow_imports(tiny_encoder_dir: Path) -> None:
    script = (
        "import sys\nfrom mcontriever.encoder.encoder import Encoder\n"
        f"Encoder.load({str(tiny_encoder_dir)!r}, light=True).embed_queries(['a'])\n"
        "slow = ('torch._dynamo', 'torch.distributed.tensor', 'transformers.modeling_utils')\n"
        "print([name for name in slow if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
