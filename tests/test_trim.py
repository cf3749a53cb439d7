"""`mcontriever trim`, on tiny models laid out as XLM-R, multilingual E5, mBERT and RoBERTa are."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoModel, PreTrainedTokenizerFast

from mcontriever import trim
from mcontriever.encoder import Encoder
from mcontriever.encoder.chosen_pieces import choose_pieces
from mcontriever.encoder.trimmed_tokenizer import Vocabulary
from mcontriever.errors import ConfigError, DataError, ModelError, StoreError, UserError

BODY = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64}
PREFIXES = "passage: query: passage: query:"  # what models put before a text
LAYOUTS = ("xlm-r", "me5", "mbert", "roberta")


def wordpiece(texts: list[str]) -> Any:
    """As mBERT's: [PAD] first, then unused pieces, and the other special tokens behind them."""
    backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=False)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    names = ["[PAD]", "[unused1]", "[unused2]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    backend.train_from_iterator(texts, trainers.WordPieceTrainer(vocab_size=420, special_tokens=names))
    backend.post_processor = processors.BertProcessing(("[SEP]", 5), ("[CLS]", 4))
    special = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, **{f"{kind}_token": name for kind, name in special.items()}
    )


def byte_level(texts: list[str]) -> Any:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    names = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    backend.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=500, special_tokens=names, initial_alphabet=alphabet)
    )
    backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="<pad>", mask_token="<mask>"
    )


@pytest.fixture(scope="module")
def model_dirs(
    tmp_path_factory: pytest.TempPathFactory, tokenizer: Any, sentences: dict[str, list[str]]
) -> dict[str, Path]:
    texts = [text for language in sentences.values() for text in language]
    made = {
        "xlm-r": ({"model_type": "xlm-roberta"}, tokenizer, {}),
        "me5": ({"model_type": "bert"}, tokenizer, {"query_prefix": "query: ", "document_prefix": "passage: "}),
        "mbert": ({"model_type": "bert"}, wordpiece(texts), {}),
        "roberta": ({"model_type": "roberta"}, byte_level(texts), {}),
    }
    folders = {}
    for name, (kind, its_tokenizer, settings) in made.items():
        folders[name] = tmp_path_factory.mktemp("models") / name
        encoder = Encoder.from_random({**BODY, **kind}, its_tokenizer, seed=3, max_length=128, **settings)
        encoder.save(folders[name])
    return folders


@pytest.fixture(scope="module")
def text_file(tmp_path_factory: pytest.TempPathFactory, sentences: dict[str, list[str]]) -> str:
    file = tmp_path_factory.mktemp("text") / "all.jsonl"
    rows = [{"text": text, "language": code} for code, texts in sentences.items() for text in texts]
    rows.append({"text": PREFIXES, "language": "en"})
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def fewest_pieces(model: Path, text: str, languages: list[str]) -> int:
    """As the error for too few says."""
    with pytest.raises(ConfigError, match="are too few") as error:
        trim.run(str(model), model.parent / "none", text=text, languages=languages, pieces=5)
    return int(str(error.value).split("more than ")[1].split(",")[0])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_texts_of_kept_pieces_have_the_same_vectors_to_the_bit_everywhere(
    layout: str, model_dirs: dict[str, Path], text_file: str, tmp_path: Path, sentences: dict[str, list[str]]
) -> None:
    trim.run(str(model_dirs[layout]), tmp_path / "small", text=text_file, languages=["en", "ar"])
    before, after = Encoder.load(model_dirs[layout]), Encoder.load(tmp_path / "small")
    assert len(after.tokenizer) < len(before.tokenizer)
    assert after.backbone.config.vocab_size == len(after.tokenizer)
    texts = [*sentences["en"], *sentences["ar"]]
    expected = before.embed_documents(texts)
    np.testing.assert_array_equal(after.embed_documents(texts), expected)
    np.testing.assert_array_equal(after.embed_queries(texts), before.embed_queries(texts))
    theirs = SentenceTransformer(str(tmp_path / "small"), device="cpu")
    prompt = before.document_prefix or None
    np.testing.assert_allclose(theirs.encode(texts, prompt=prompt), expected, atol=1e-5)
    plain = AutoModel.from_pretrained(tmp_path / "small")
    assert plain.get_input_embeddings().num_embeddings == len(after.tokenizer)
    for name in ("begin_id", "end_id", "pad_id", "unknown_id", "mask_id"):
        old, new = getattr(before.special, name), getattr(after.special, name)
        assert (old is None) == (new is None)
        if old is not None:
            assert before.tokenizer.convert_ids_to_tokens(old) == after.tokenizer.convert_ids_to_tokens(new)
    assert Encoder.load(tmp_path / "small", light=True).fingerprint() == after.fingerprint()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_with_few_pieces_texts_grow_longer_and_nothing_becomes_unknown(
    layout: str, model_dirs: dict[str, Path], text_file: str, tmp_path: Path, sentences: dict[str, list[str]]
) -> None:
    least = fewest_pieces(model_dirs[layout], text_file, ["en", "hi"])
    trim.run(str(model_dirs[layout]), tmp_path / "small", text=text_file, languages=["en", "hi"], pieces=least + 9)
    before, after = Encoder.load(model_dirs[layout]), Encoder.load(tmp_path / "small")
    assert len(after.tokenizer) == least + 9
    for text in [*sentences["en"], *sentences["hi"]]:
        old, new = (encoder.tokenizer(text)["input_ids"] for encoder in (before, after))
        assert len(new) >= len(old)
        assert new.count(after.special.unknown_id) == old.count(before.special.unknown_id)
        if layout != "mbert":  # which does not say where it had spaces
            decoded = (encoder.tokenizer.decode(ids) for encoder, ids in ((before, old), (after, new)))
            assert len(set(decoded)) == 1
    report = json.loads((tmp_path / "small" / "report.json").read_text())
    for values in report["languages"].values():
        assert values["unknown"] == values["unknown_before"]
        assert values["length"] > values["length_before"]
        assert 0 < values["tokens_kept"] < 1
        assert values["cosine_worst_percent"] <= values["cosine"] < 1


def test_the_report_counts_and_measures_what_the_models_do(
    model_dirs: dict[str, Path], text_file: str, tmp_path: Path, sentences: dict[str, list[str]]
) -> None:
    least = fewest_pieces(model_dirs["xlm-r"], text_file, ["sw", "en"])
    trim.run(str(model_dirs["xlm-r"]), tmp_path / "small", text=text_file, languages=["sw", "en"], pieces=least + 20)
    before, after = Encoder.load(model_dirs["xlm-r"]), Encoder.load(tmp_path / "small")
    names = after.tokenizer.get_vocab()
    report = json.loads((tmp_path / "small" / "report.json").read_text())
    texts_of = {"sw": sentences["sw"], "en": [*sentences["en"], PREFIXES]}
    for language, texts in texts_of.items():
        found = report["languages"][language]
        token_ids = before.tokenizer(texts, add_special_tokens=False)["input_ids"]
        tokens = [before.tokenizer.convert_ids_to_tokens(row) for row in token_ids]
        flat = [token for row in tokens for token in row]
        assert found["tokens_kept"] == pytest.approx(np.mean([token in names for token in flat]), abs=1e-5)
        assert found["pieces"] == len(set(flat) & names.keys())
        assert found["length_before"] == pytest.approx(np.mean([len(row) for row in tokens]), abs=0.01)
        vectors = [encoder.embed_documents(texts).astype(np.float64) for encoder in (before, after)]
        old, new = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in vectors)
        assert found["cosine"] == pytest.approx((old * new).sum(1).mean(), abs=1e-4)
        assert found["cosine"] < 1
        assert found["cosine_worst_percent"] == pytest.approx(np.percentile((old * new).sum(1), 1), abs=1e-4)
    text = (tmp_path / "small" / "report.md").read_text()
    card = (tmp_path / "small" / "README.md").read_text()
    assert card.startswith(text)
    assert "model.encode_query(" in card[len(text) :]
    assert "| sw |" in text


def test_every_language_keeps_its_quota_and_the_rest_goes_by_use() -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        counts = random.integers(0, 50, (3, 60)) * random.integers(0, 2, (3, 60)) * np.array([[1000], [30], [1]])
        always = {0, 1, 59}
        kept = set(choose_pieces(counts, 31, always=always, parts_of={}).tolist())
        assert len(kept) == 31
        ranked = [[p for p in np.lexsort((np.arange(60), -row)).tolist() if row[p]] for row in counts]
        quotas = [always.union(*(row[:quota] for row in ranked)) for quota in range(61)]
        guaranteed = max((one for one in quotas if len(one) <= 3 + 14), key=len)
        assert guaranteed <= kept
        use = (counts / counts.sum(1, keepdims=True)).sum(0)
        following = next(one for one in quotas if len(one) > 3 + 14)  # of whose last round some had a place
        least = min(use[piece] for piece in kept - following)
        assert all(use[piece] <= least for piece in set(range(60)) - kept)


def test_what_the_vocabulary_holds_probable_counts_too(model_dirs: dict[str, Path]) -> None:
    counts = np.array([[100, 81, 64, 49, 0]])
    probable = np.array([0.01, 0.01, 0.2, 0.2, 0.9])
    assert choose_pieces(counts, 2, always=set(), parts_of={}, probable_V=probable).tolist() == [2, 3]
    found = Vocabulary.of(Encoder.load(model_dirs["xlm-r"]).tokenizer).probabilities()
    assert found is not None
    assert (found <= 1).all()
    assert Vocabulary.of(Encoder.load(model_dirs["mbert"]).tokenizer).probabilities() is None


def test_a_language_may_weigh_more() -> None:
    counts = np.array([[9, 8, 7, 6, 0, 0, 0, 0], [0, 0, 0, 0, 9, 8, 7, 6]])
    weights = np.array([1.0, 100.0])
    assert choose_pieces(counts, 5, always=set(), parts_of={}, weights_L=weights).tolist() == [0, 4, 5, 6, 7]
    assert trim.language_weights("en=3, sw=0.5") == {"en": 3.0, "sw": 0.5}


def test_a_merged_piece_brings_its_parts() -> None:
    counts = np.array([[0, 0, 0, 9, 8, 7, 0, 0]])
    assert choose_pieces(counts, 6, always=set(), parts_of={3: (1, 2)}).tolist() == [0, 1, 2, 3, 4, 5]
    assert choose_pieces(counts, 2, always=set(), parts_of={3: (1, 2)}).tolist() == [4, 5]


def test_layers_are_the_first_ones_or_those_listed(model_dirs: dict[str, Path], tmp_path: Path) -> None:
    texts = ["a small telescope", "nine days"]
    for kind in ("xlm-r", "mbert"):
        whole = AutoModel.from_pretrained(model_dirs[kind])
        trim.run(str(model_dirs[kind]), tmp_path / kind, layers="0-1")
        small = Encoder.load(tmp_path / kind)
        inputs = small.tokenizer(texts, return_tensors="pt", padding=True, return_token_type_ids=False)
        with torch.no_grad():
            hidden = whole(**inputs, output_hidden_states=True).hidden_states[2]
        mask = inputs["attention_mask"][:, :, None]
        expected = (hidden * mask).sum(1) / mask.sum(1)
        np.testing.assert_allclose(small.embed_documents(texts), expected, atol=1e-5)
    trim.run(str(model_dirs["xlm-r"]), tmp_path / "picked", layers="2,0")
    first, picked = (
        AutoModel.from_pretrained(folder).encoder.layer for folder in (model_dirs["xlm-r"], tmp_path / "picked")
    )
    for old, new in ((2, 0), (0, 1)):
        assert torch.equal(first[old].output.dense.weight, picked[new].output.dense.weight)


def test_pieces_are_counted_in_token_shards_too(
    tiny_encoder_dir: Path, tiny_tokens_dir: Path, tmp_path: Path, model_dirs: dict[str, Path]
) -> None:
    trim.run(str(tiny_encoder_dir), tmp_path / "small", text=str(tiny_tokens_dir), languages=["sw", "zh"], pieces=190)
    trim.run(str(tiny_encoder_dir), tmp_path / "same", text="atlas", languages=["sw", "zh"], pieces=190)
    small, same = (Encoder.load(tmp_path / name) for name in ("small", "same"))
    assert small.tokenizer.get_vocab() == same.tokenizer.get_vocab()
    with pytest.raises(StoreError, match="the tokens were made by"):
        trim.run(str(model_dirs["mbert"]), tmp_path / "other", text=str(tiny_tokens_dir))


def test_what_cannot_be_trimmed_is_refused_with_a_way_out(
    model_dirs: dict[str, Path], text_file: str, tmp_path: Path, cli: Any
) -> None:
    model, out = str(model_dirs["xlm-r"]), tmp_path / "out"
    wrong: list[tuple[type[UserError], str, dict[str, Any]]] = [
        (ConfigError, "nothing to trim", {}),
        (ConfigError, "--languages without --text", {"languages": ["en"]}),
        (ConfigError, "--pieces without --text", {"pieces": 99}),
        (ConfigError, "--pieces is 9,999, the model has 220", {"text": text_file, "pieces": 9999}),
        (DataError, "no text in fi; there is ar, en, hi, sw, zh", {"text": text_file, "languages": ["en", "fi"]}),
        (DataError, "neither token shards nor any file", {"text": str(model_dirs["xlm-r"])}),
        (ConfigError, "--weights names fi; the languages are", {"text": text_file, "weights": {"fi": 2.0}}),
        (ConfigError, "not a list of layers", {"layers": "first"}),
        (ConfigError, "not a list of layers", {"layers": "3-1"}),
        (ConfigError, "names layer 3, 4; the model has layers 0 to 2", {"layers": "0-4"}),
        (StoreError, "is not empty and is not a model", {"layers": "0"}),
    ]
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").write_bytes(b"")
    for kind, message, options in wrong:
        folder = tmp_path / "photos" if kind is StoreError else out
        with pytest.raises(kind, match=message) as error:
            trim.run(model, folder, **options)
        assert error.value.fix
    assert not out.exists()
    for text in ("en", "en=-1", "en=nan", "=2"):
        with pytest.raises(ConfigError, match="not a list of weights above 0"):
            trim.language_weights(text)
    done = cli("trim", model, "--text", text_file, "--languages", "fi", "--output", out)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: no text in fi; there is ar, en, hi, sw, zh\n  where: ")


def test_tokenizers_of_other_kinds_are_refused(tokenizer: Any) -> None:
    words = Tokenizer(models.WordLevel({"<unk>": 0, "a": 1}, unk_token="<unk>"))
    with pytest.raises(ModelError, match="kind WordLevel cannot be cut"):
        Vocabulary.of(PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>"))
    whole_words = Tokenizer(models.BPE({"a": 0, "b": 1, "ab": 2}, [("a", "b")], ignore_merges=True))
    with pytest.raises(ModelError, match="whole words before its merges"):
        Vocabulary.of(PreTrainedTokenizerFast(tokenizer_object=whole_words))
