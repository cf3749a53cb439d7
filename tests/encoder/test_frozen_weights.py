"""Which weights stay as they are, for each kind of encoder."""

from typing import Any

import pytest

from mcontriever.encoder.frozen_weights import freeze
from mcontriever.encoder.new_backbone import random_backbone
from mcontriever.errors import ConfigError

SIZE = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
DISTILBERT = {"model_type": "distilbert", "dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 32}


@pytest.mark.parametrize(
    "config", [SIZE, {**SIZE, "model_type": "bert"}, DISTILBERT], ids=["xlm-r", "bert", "distilbert"]
)
def test_the_lowest_layers_and_all_embeddings_stay(config: dict[str, Any], tokenizer: Any) -> None:
    backbone, _ = random_backbone(config, tokenizer, 32, 1)
    freeze(backbone, embeddings=True, layers=0)
    frozen = {name for name, value in backbone.named_parameters() if not value.requires_grad}
    assert frozen == {"embeddings.word_embeddings.weight"}
    freeze(backbone, embeddings=False, layers=2)
    trained = [name for name, value in backbone.named_parameters() if value.requires_grad]
    assert trained
    assert all("layer.2." in name for name in trained)
    with pytest.raises(ConfigError, match=r"encoder\.frozen_layers is 3, the encoder has 3: nothing would be left"):
        freeze(backbone, embeddings=False, layers=3)
