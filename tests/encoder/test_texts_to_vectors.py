"""Texts to embeddings: order, precision, fallbacks, odd texts, and no stale weights."""

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from mcontriever.encoder import Encoder, texts_to_vectors
from mcontriever.encoder.cpu_backbone import FastCpuBackbone
from mcontriever.encoder.texts_to_vectors import resolve_precision
from mcontriever.processor import multiplies_bf16
from mcontriever.tokens import load_tokenizer, pack, tokenize_texts

SIZE = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 128}


@pytest.fixture(scope="module")
def encoder(tiny_tokenizer_dir: Path) -> Encoder:
    return Encoder.from_random(SIZE, load_tokenizer(tiny_tokenizer_dir), max_length=60, seed=2).eval()


@pytest.fixture(scope="module")
def texts(sentences: dict[str, list[str]]) -> list[str]:
    parts = [text for group in sentences.values() for text in group]
    return [*parts, "", "a", *(text[:17] for text in parts), " ".join(parts), "", "😀", "\ud83d", "\x00\n"]


def reference(encoder: Encoder, texts: list[str]) -> np.ndarray:
    flat_ids, lengths = tokenize_texts(encoder.tokenizer, texts, encoder.max_length)
    batch = pack(flat_ids, lengths, encoder.special, encoder.first_position, encoder.max_length)
    with torch.no_grad():
        return encoder.forward_padded(batch).numpy()


def smallest_cosine(left_NH: np.ndarray, right_NH: np.ndarray) -> float:
    norms_N = np.linalg.norm(left_NH, axis=1) * np.linalg.norm(right_NH, axis=1)
    return float(((left_NH * right_NH).sum(1) / norms_N).min())


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts_to_vectors, "TEXTS_PER_WINDOW", 9)
    monkeypatch.setitem(texts_to_vectors.TOKENS_PER_BATCH, "cpu", 70)


@pytest.mark.usefixtures("small_batches")
def test_rows_come_back_in_order_over_windows_and_batches(encoder: Encoder, texts: list[str]) -> None:
    embeddings = encoder.embed_documents(texts)
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(embeddings, reference(encoder, texts), atol=1e-5)


def test_cores_with_batches_of_their_own_embed_the_same(
    encoder: Encoder, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = torch.get_num_threads()
    many = [f"{number} {text}" for number in range(20) for text in texts]
    monkeypatch.setitem(texts_to_vectors.TOKENS_PER_BATCH, "cpu", 100)
    try:
        torch.set_num_threads(1)
        expected = encoder.embed_documents(many)
        torch.set_num_threads(3)
        np.testing.assert_allclose(encoder.embed_documents(many), expected, atol=2e-6)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu", "silu"])
@pytest.mark.parametrize("prepack", [False, None])
def test_fast_float32_is_exact_with_prepared_weights_and_without(
    tiny_tokenizer_dir: Path, texts: list[str], activation: str, prepack: bool | None
) -> None:
    encoder = Encoder.from_random({**SIZE, "hidden_act": activation}, load_tokenizer(tiny_tokenizer_dir)).eval()
    flat_ids, lengths = tokenize_texts(encoder.tokenizer, texts, 60)
    batch = pack(flat_ids, lengths, encoder.special, encoder.first_position, 60)
    with torch.inference_mode():
        fast = FastCpuBackbone.of(encoder.backbone, torch.float32, prepack=prepack)
        np.testing.assert_allclose(encoder.pool(fast(batch), batch), encoder.forward_padded(batch), atol=1e-5)


@pytest.mark.parametrize("prepack", [False, None])
def test_fast_bfloat16_stays_close(encoder: Encoder, texts: list[str], prepack: bool | None) -> None:
    flat_ids, lengths = tokenize_texts(encoder.tokenizer, texts, 60)
    batch = pack(flat_ids, lengths, encoder.special, encoder.first_position, 60)
    with torch.inference_mode():
        fast = FastCpuBackbone.of(encoder.backbone, torch.bfloat16, prepack=prepack)
        embeddings = encoder.pool(fast(batch), batch).numpy()
    assert smallest_cosine(embeddings, reference(encoder, texts)) >= 0.9995


def test_precision_reaches_the_embeddings(encoder: Encoder, texts: list[str], tmp_path: Path) -> None:
    folder = encoder.save(tmp_path / "model")
    exact = Encoder.load(folder).embed_documents(texts)
    low = Encoder.load(folder, precision="bfloat16").embed_documents(texts)
    assert not np.array_equal(exact, low)
    assert smallest_cosine(exact, low) >= 0.9995
    automatic = Encoder.load(folder, precision="auto").embed_documents(texts)
    is_low = resolve_precision("auto", torch.device("cpu")) == "bfloat16"
    np.testing.assert_array_equal(automatic, low if is_low else exact)


def test_what_auto_chose_and_what_emulated_bf16_costs_is_said_once(
    encoder: Encoder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    texts_to_vectors._report_cpu_precision.cache_clear()
    folder = encoder.save(tmp_path / "model")
    with caplog.at_level("INFO", "mcontriever"):
        for precision in ("auto", "auto", "bfloat16", "bfloat16", "float32"):
            Encoder.load(folder, precision=precision).embed_queries(["river"])
    said = [message for message in caplog.messages if message.startswith("precision")]
    if resolve_precision("auto", torch.device("cpu")) == "bfloat16":
        assert said == ["precision auto: bfloat16, because this processor has bf16"]
    else:
        slow = "multiplies float32 faster" if multiplies_bf16() else "emulates bf16"
        assert said[0] == f"precision auto: float32, because this processor {slow}"
        assert re.fullmatch(rf"precision bfloat16: this processor {slow}, so products take [\d.]+ times as .*", said[1])
        assert len(said) == 2


def test_other_architectures_embed_too(tiny_tokenizer_dir: Path, texts: list[str]) -> None:
    config = {"model_type": "distilbert", "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64}
    encoder = Encoder.from_random(config, load_tokenizer(tiny_tokenizer_dir), max_length=60).eval()
    exact = encoder.embed_documents(texts)
    np.testing.assert_allclose(exact, reference(encoder, texts), atol=1e-5)
    encoder.precision = "bfloat16"
    assert smallest_cosine(encoder.embed_documents(texts), exact) >= 0.999


def test_odd_texts_have_defined_results(encoder: Encoder) -> None:
    assert encoder.embed_queries([]).shape == (0, 64)
    begin_and_end = pack(np.zeros(0, dtype=np.int64), np.array([0]), encoder.special, encoder.first_position, 60)
    with torch.no_grad():
        expected = encoder.forward_padded(begin_and_end)[0].numpy()
    np.testing.assert_allclose(encoder.embed_queries([""])[0], expected, atol=1e-5)
    word = "river "
    long_text = word * 17_000
    np.testing.assert_allclose(encoder.embed_documents([long_text]), encoder.embed_documents([word * 400]), atol=1e-6)


def test_prefixes_and_titles_go_before_the_text(encoder: Encoder) -> None:
    plain = encoder.embed_documents(["query: a", "title text", "text", "title"])
    encoder.query_prefix = "query: "
    try:
        np.testing.assert_allclose(encoder.embed_queries(["a"])[0], plain[0], atol=1e-6)
    finally:
        encoder.query_prefix = ""
    titled = encoder.embed_documents(["text", "text", ""], titles=["title", "", "title"])
    np.testing.assert_allclose(titled, plain[1:], atol=1e-6)
    with pytest.raises(ValueError, match=r"shorter|longer"):
        encoder.embed_documents(["a", "b"], titles=["one"])


def test_embedding_never_uses_stale_weights(tiny_encoder_dir: Path) -> None:
    encoder = Encoder.load(tiny_encoder_dir)
    seen = [encoder.embed_queries(["river"])]
    dense = encoder.backbone.encoder.layer[0].output.dense
    with torch.no_grad():
        dense.weight.mul_(2)
    seen.append(encoder.embed_queries(["river"]))
    encoder.train()
    dense.weight.data.mul_(2)  # what an optimizer does, unseen by torch's version counter
    seen.append(encoder.embed_queries(["river"]))
    dense.weight.data.mul_(2)
    seen.append(encoder.embed_queries(["river"]))
    assert encoder.training
    assert encoder.backbone.encoder.layer[0].training
    encoder.eval()
    seen.append(encoder.embed_queries(["river"]))
    for number, (before, after) in enumerate(itertools.pairwise(seen[:4])):
        assert not np.allclose(before, after), number
    np.testing.assert_array_equal(seen[3], seen[4])


def test_training_mode_embeds_without_dropout(tiny_encoder_dir: Path) -> None:
    encoder = Encoder.load(tiny_encoder_dir)
    expected = encoder.embed_queries(["river"])
    np.testing.assert_array_equal(encoder.train().embed_queries(["river"]), expected)
