"""The default model: found by its name, small, licensed, loaded equally in both ways, and it finds across scripts."""

import json
from pathlib import Path

import numpy as np
import pytest

from mcontriever.assembly.training_config import load_train_config
from mcontriever.encoder import Encoder
from mcontriever.encoder.four_bit_blocks import KIND, pack_blocks, takes_blocks
from mcontriever.hub import is_bundled, lasting_name, model_folder
from mcontriever.retrieval.embedding import embedding_run
from mcontriever.shipped import BUNDLED, DEFAULT_MODEL, bundled_folder
from mcontriever.tokens import load_tokenizer
from tests.conftest import REPOSITORY

ARABIC = "أي بلد استضاف أول بطولة لكأس العالم لكرة القدم؟"
PASSAGES = [
    "A telescope gathers light from distant objects and makes them look nearer.",
    "The FIFA World Cup is a football tournament. Uruguay staged the first edition in 1930.",
    "Coffee is made from the roasted seeds of a plant that comes from Ethiopia.",
]
MEGABYTE = 1_000_000
MINI = bundled_folder("mini")


@pytest.fixture(scope="module")
def mini() -> Encoder:
    return Encoder.load("mini", light=True)


def test_it_is_the_default_and_its_name_means_its_folder(tmp_path: Path) -> None:
    assert DEFAULT_MODEL == "mini"
    assert model_folder("mini") == MINI
    assert {name for name in ("mini", "nano", "micro") if is_bundled(name)} == set(BUNDLED)
    assert lasting_name("mini") == "mini"
    assert embedding_run._model_of(tmp_path / "none") == "mini"


def test_it_is_small_and_says_where_it_comes_from() -> None:
    files = [path for path in MINI.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 32 * MEGABYTE
    card = (MINI / "README.md").read_text(encoding="utf-8")
    for part in (
        "license: mit",
        "multilingual-e5-small",
        "XQuAD",
        "MIRACL",
        "Mr. TyDi",
        "configs/mini/run.sh",
        "passage: ",
    ):
        assert part in card, part
    assert "Copyright (c) Microsoft Corporation" in (MINI / "LICENSE").read_text(encoding="utf-8")


def test_it_finds_across_scripts_and_both_ways_of_loading_agree(mini: Encoder) -> None:
    assert (mini.query_prefix, mini.document_prefix) == ("query: ", "passage: ")
    scores = mini.embed_queries([ARABIC]) @ mini.embed_documents(PASSAGES).T
    assert int(scores.argmax()) == 1
    heavy = Encoder.load("mini", light=False)
    assert heavy.fingerprint() == mini.fingerprint()
    np.testing.assert_allclose(heavy.embed_documents(PASSAGES), mini.embed_documents(PASSAGES), atol=1e-5)


def test_storing_it_again_in_blocks_loses_nothing(mini: Encoder) -> None:
    from mcontriever.encoder.few_bits import unpack_all

    weights = mini.backbone.state_dict()
    for name in ("encoder.layer.0.attention.self.query.weight", "encoder.layer.8.output.dense.weight"):
        assert takes_blocks(name, weights[name])
        packed = pack_blocks(name, weights[name])
        assert f"{name}.{KIND}" in packed
        assert unpack_all(packed)[name].equal(weights[name])


def test_its_vocabulary_has_every_character_of_its_languages_scripts() -> None:
    tokenizer = load_tokenizer("mini")
    texts = ["मैं घर जाता हूँ", "ヴ 鬱 龜", "ﷺ ڤ پ چ", "Ծով", "ჟ?"]  # the last script is not among them
    unknown = [tokenizer.unk_token_id in tokenizer(text)["input_ids"] for text in texts]
    assert unknown == [False, False, False, False, True]
    assert len(tokenizer) == json.loads((MINI / "config.json").read_text())["vocab_size"]


def test_training_continues_from_it_with_pieces_and_lower_layers_frozen() -> None:
    from mcontriever.assembly.trained_encoder import open_encoder

    config = load_train_config(REPOSITORY / "configs" / "pretrain" / "continue_mini_cpu.yaml")
    encoder = open_encoder(config, load_tokenizer("mini"), None)
    trained = {name for name, weight in encoder.named_parameters() if weight.requires_grad}
    assert trained
    assert {name.split(".")[3] for name in trained} == {str(layer) for layer in range(5, 9)}
