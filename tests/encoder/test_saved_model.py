"""The exported folder: three libraries open it to the same embeddings, and nothing wrong opens at all."""

import json
import shutil
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoTokenizer

from mcontriever import export
from mcontriever.encoder import Encoder
from mcontriever.encoder.model_checksums import CHECKSUMS
from mcontriever.errors import HubError, ModelError
from mcontriever.tokens import load_tokenizer
from tests.warm_processes import CONTEXT

SIZE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
SPEC = {
    "pooling": "cls",
    "normalize": True,
    "similarity": "cosine",
    "max_length": 24,
    "query_prefix": "query: ",
    "document_prefix": "passage: ",
}


@pytest.fixture(scope="module")
def tokenizer(tiny_tokenizer_dir: Path) -> Any:
    return load_tokenizer(tiny_tokenizer_dir)


@pytest.fixture(scope="module")
def texts(sentences: dict[str, list[str]]) -> list[str]:
    return [text for group in sentences.values() for text in group] + ["", "a"]


def by_auto_model(folder: Path, texts: list[str], pooling: str, max_length: int) -> np.ndarray:
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    batch = tokenizer(texts, padding=True, truncation=True, max_length=max_length, return_tensors="pt")
    with torch.no_grad():
        hidden_NLH = model(**batch).last_hidden_state
    if pooling == "cls":
        return hidden_NLH[:, 0].numpy()
    mask_NL1 = batch["attention_mask"][:, :, None]
    return ((hidden_NLH * mask_NL1).sum(1) / mask_NL1.sum(1)).numpy()


CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "xlm-roberta": ({}, {}),
    "bert-cls": ({"model_type": "bert"}, {"pooling": "cls"}),
    "normalized": ({"model_type": "roberta"}, {"normalize": True}),
    "no-layers": ({"num_hidden_layers": 0}, {}),
    "no-positions": ({"position_embeddings": False}, {}),
    "weighted-bag": ({"num_hidden_layers": 0, "token_weights": True}, {}),
    "distilbert": ({"model_type": "distilbert", "dim": 32, "n_layers": 1, "n_heads": 4, "hidden_dim": 64}, {}),
}


@pytest.mark.parametrize("case", CASES)
def test_three_libraries_open_it_to_the_same_embeddings(
    case: str, tokenizer: Any, texts: list[str], tmp_path: Path
) -> None:
    config, settings = CASES[case]
    encoder = Encoder.from_random(SIZE | config, tokenizer, max_length=20, **settings).eval()
    if encoder.token_weights is not None:
        torch.nn.init.uniform_(encoder.token_weights.weight, 0.1, 3.0)
    expected = encoder.embed_documents(texts)
    folder = encoder.save(tmp_path / "model")
    assert (folder / "model.safetensors").exists()
    assert not list(folder.glob("*.bin"))

    loaded = Encoder.load(folder)
    assert loaded.spec() == encoder.spec()
    assert loaded.fingerprint() == encoder.fingerprint()
    np.testing.assert_allclose(loaded.embed_documents(texts), expected, atol=1e-5)
    sentence_transformer = SentenceTransformer(str(folder), device="cpu")
    assert sentence_transformer.max_seq_length == 20
    np.testing.assert_allclose(sentence_transformer.encode(texts), expected, atol=1e-5)
    raw = by_auto_model(folder, texts, encoder.pooling, 20)
    if encoder.normalize:
        raw /= np.linalg.norm(raw, axis=1, keepdims=True)
    np.testing.assert_allclose(raw, expected, atol=1e-5)


def test_sentence_transformers_knows_similarity_and_prefixes(tokenizer: Any, texts: list[str], tmp_path: Path) -> None:
    encoder = Encoder.from_random(SIZE, tokenizer, **SPEC).eval()
    model = SentenceTransformer(str(encoder.save(tmp_path / "model", card="# Card")), device="cpu")
    assert (model.similarity_fn_name, model.max_seq_length) == ("cosine", 24)
    np.testing.assert_allclose(model.encode_query(texts), encoder.embed_queries(texts), atol=1e-5)
    np.testing.assert_allclose(model.encode_document(texts), encoder.embed_documents(texts), atol=1e-5)
    assert (tmp_path / "model" / "README.md").read_text() == "# Card"
    assert Encoder.load(tmp_path / "model").spec() == SPEC


def test_a_card_that_nobody_wrote_says_how_the_model_is_used(tokenizer: Any, tmp_path: Path) -> None:
    encoder = Encoder.from_random(SIZE, tokenizer, **SPEC)
    card = (encoder.save(tmp_path / "model") / "README.md").read_text()
    for part in ("model.encode_query(", "model.encode_document(", "cosine similarity", "mcontriever.mteb_model("):
        assert part in card, part


@pytest.mark.parametrize("name", ["nano", "mini"])
def test_the_python_route_on_a_bundled_card_is_that_of_its_export(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export.run(name, tmp_path / "FOLDER")
    card = (tmp_path / "FOLDER" / "README.md").read_text(encoding="utf-8")
    assert f'mteb.evaluate(mcontriever.mteb_model("{name}"), tasks)' in card
    (code,) = [part for part in card.split("```python\n")[1:] if "sentence_transformers" in part]
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    exec(code.split("```")[0], found)
    encoder = Encoder.load(name)
    expected = encoder.embed_queries(["a question"]) @ encoder.embed_documents(["a passage"]).T
    np.testing.assert_allclose(found["scores"], expected, atol=1e-2)


def test_a_model_that_sentence_transformers_saved(tokenizer: Any, texts: list[str], tmp_path: Path) -> None:
    first = Encoder.from_random(SIZE, tokenizer, max_length=24, normalize=True).save(tmp_path / "first")
    theirs = SentenceTransformer(str(first), device="cpu", prompts={"query": "q: "})
    theirs.save(str(tmp_path / "theirs"), create_model_card=False)
    ours = Encoder.load(tmp_path / "theirs")
    assert (ours.query_prefix, ours.max_length, ours.normalize) == ("q: ", 24, True)
    np.testing.assert_allclose(ours.embed_queries(texts), theirs.encode_query(texts), atol=1e-5)


def test_changes_override_what_the_folder_says(tiny_encoder_dir: Path) -> None:
    plain, changed = Encoder.load(tiny_encoder_dir), Encoder.load(tiny_encoder_dir, pooling="cls", max_length=None)
    assert (plain.pooling, changed.pooling, changed.max_length) == ("mean", "cls", plain.max_length)
    assert plain.fingerprint() != changed.fingerprint()


def test_a_plain_backbone_gets_the_usual_settings(tiny_encoder_dir: Path, tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny_encoder_dir / name, tmp_path / name)
    encoder = Encoder.load(tmp_path)
    assert encoder.spec() == {
        "pooling": "mean",
        "normalize": False,
        "similarity": "dot",
        "max_length": 128,
        "query_prefix": "",
        "document_prefix": "",
    }


@pytest.fixture
def model_copy(tiny_encoder_dir: Path, tmp_path: Path) -> Path:
    """As others write it: without checksums of its files, which these tests change."""
    return Path(shutil.copytree(tiny_encoder_dir, tmp_path / "copy", ignore=shutil.ignore_patterns(CHECKSUMS)))


def rewrite(folder: Path, **changes: torch.Tensor | None) -> None:
    """Replace, add or (None) remove weights; dots in their names are written as double underscores."""
    weights = load_file(folder / "model.safetensors")
    for name, value in changes.items():
        name = name.replace("__", ".")
        weights.pop(name) if value is None else weights.update({name: value})
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def test_weights_must_all_be_accounted_for(model_copy: Path) -> None:
    rewrite(model_copy, pooler__dense__weight=torch.zeros(32, 32), lm_head__bias=torch.zeros(220))
    Encoder.load(model_copy)  # heads of other tasks are known, and left out
    rewrite(model_copy, extra__weight=torch.zeros(2))
    with pytest.raises(ModelError, match=r"1 weights unknown to the architecture: extra\.weight"):
        Encoder.load(model_copy)
    rewrite(model_copy, extra__weight=None, embeddings__LayerNorm__bias=None)
    with pytest.raises(ModelError, match=r"1 weights missing from the file: embeddings\.LayerNorm\.bias"):
        Encoder.load(model_copy)
    rewrite(model_copy, embeddings__LayerNorm__bias=torch.zeros(31))
    with pytest.raises(ModelError, match=r"1 weights of a different shape: embeddings\.LayerNorm\.bias"):
        Encoder.load(model_copy)


def test_a_checkpoint_with_the_prefix_of_its_pretraining_task(
    model_copy: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """XLM-R's own file: every name begins with `roberta.`, and the language model's head comes along, unremarked."""
    expected = Encoder.load(model_copy).embed_queries(["river"])
    weights = {f"roberta.{name}": value for name, value in load_file(model_copy / "model.safetensors").items()}
    weights |= {"lm_head.dense.weight": torch.zeros(32, 32), "roberta.pooler.dense.bias": torch.zeros(32)}
    save_file(weights, model_copy / "model.safetensors", metadata={"format": "pt"})
    capfd.readouterr()
    np.testing.assert_array_equal(Encoder.load(model_copy).embed_queries(["river"]), expected)
    assert capfd.readouterr() == ("", "")


def edit(file: Path, **changes: Any) -> None:
    value = json.loads(file.read_text())
    file.write_text(json.dumps({**value, **changes}))


def test_what_we_cannot_compute_is_refused(model_copy: Path) -> None:
    edit(model_copy / "1_Pooling" / "config.json", pooling_mode_mean_tokens=False, pooling_mode_max_tokens=True)
    with pytest.raises(ModelError, match="pooling 'pooling_mode_max_tokens' is not one of mean, cls"):
        Encoder.load(model_copy)
    modules = json.loads((model_copy / "modules.json").read_text())
    modules.append({"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"})
    (model_copy / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ModelError, match=r"Transformer \+ Pooling \+ Dense"):
        Encoder.load(model_copy)
    (model_copy / "modules.json").write_text("[")
    with pytest.raises(ModelError, match="not valid JSON"):
        Encoder.load(model_copy)


def test_code_in_a_folder_is_never_run(model_copy: Path) -> None:
    marker = model_copy / "ran"
    (model_copy / "evil.py").write_text(f"open({str(marker)!r}, 'w')")
    edit(model_copy / "config.json", model_type="evil", auto_map={"AutoConfig": "evil.C", "AutoModel": "evil.M"})
    with pytest.raises(ModelError, match="the folder has no readable backbone"):
        Encoder.load(model_copy)
    assert not marker.exists()


@pytest.mark.parametrize("damage", ["cut", "no-weights", "no-config"])
def test_a_damaged_folder_is_named(model_copy: Path, damage: str) -> None:
    weights = model_copy / "model.safetensors"
    if damage == "cut":
        weights.write_bytes(weights.read_bytes()[:1000])
    else:
        (weights if damage == "no-weights" else model_copy / "config.json").unlink()
    with pytest.raises(ModelError) as caught:
        Encoder.load(model_copy)
    assert str(model_copy) in str(caught.value)


def test_a_failed_save_leaves_the_old_folder_whole(tiny_encoder_dir: Path, model_copy: Path) -> None:
    before = {file.name: file.read_bytes() for file in model_copy.iterdir() if file.is_file()}
    with pytest.raises(FileNotFoundError):
        Encoder.load(tiny_encoder_dir).save(model_copy, attachments={"no-such-folder/config.yaml": b""}, overwrite=True)
    assert {file.name: file.read_bytes() for file in model_copy.iterdir() if file.is_file()} == before
    assert [file.name for file in model_copy.parent.iterdir()] == [model_copy.name]
    Encoder.load(tiny_encoder_dir).save(
        model_copy, card="new", attachments={"config.yaml": b"stage: pretrain"}, overwrite=True
    )
    assert (model_copy / "config.yaml").read_bytes() == b"stage: pretrain"
    assert (model_copy / "README.md").read_text() == "new"


def test_no_such_folder_and_no_such_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="no such folder"):
        Encoder.load(tmp_path / "missing")
    with pytest.raises(HubError, match="neither a folder nor in the local cache, and HF_HUB_OFFLINE is set") as caught:
        Encoder.load("someone/no-such-model")
    assert "give the path of a folder" in str(caught.value)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://192.0.2.1:9")  # reserved for examples: nobody answers
    start = time.monotonic()
    with pytest.raises(HubError, match=r"192\.0\.2\.1 cannot be reached") as caught:
        Encoder.load("someone/no-such-model")
    assert time.monotonic() - start < 20  # a hub's own retries take 50 s
    assert "give the path of a folder" in str(caught.value)


def fingerprint_of(folder: Path) -> str:
    return Encoder.load(folder).fingerprint()


def test_fingerprint_covers_weights_and_spec_and_survives_a_process(tiny_encoder_dir: Path) -> None:
    encoder = Encoder.load(tiny_encoder_dir)
    with ProcessPoolExecutor(1, mp_context=CONTEXT) as other:
        assert other.submit(fingerprint_of, tiny_encoder_dir).result() == encoder.fingerprint()
    fingerprints = {encoder.fingerprint(), Encoder.load(tiny_encoder_dir, query_prefix="q: ").fingerprint()}
    with torch.no_grad():
        next(encoder.parameters())[3, 3] += 1e-3
    fingerprints.add(encoder.fingerprint())
    edit_norm = Encoder.load(tiny_encoder_dir)
    edit_norm.backbone.config.layer_norm_eps = 0.1
    fingerprints.add(edit_norm.fingerprint())
    assert len(fingerprints) == 4


def test_what_the_processor_cannot_do_is_refused(tiny_encoder_dir: Path) -> None:
    with pytest.raises(ModelError, match="float16 is for GPUs"):
        Encoder.load(tiny_encoder_dir, precision="float16")
    if not torch.cuda.is_available():
        with pytest.raises(ModelError, match="no GPU for device 'cuda'"):
            Encoder.load(tiny_encoder_dir, device="cuda")
