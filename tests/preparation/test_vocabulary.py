"""vocabulary.py: XLM-R's layout, the same pieces as sentencepiece itself, balance, and the same bytes every time."""

from pathlib import Path

import pytest
import sentencepiece
from transformers import AutoTokenizer

from mcontriever.encoder.saved_model import write_tokenizer
from mcontriever.errors import DataError
from mcontriever.preparation.vocabulary import train_tokenizer
from mcontriever.tokens import tokenizer_fingerprint
from mcontriever.word_starts import UNSPACED_SCRIPTS


@pytest.fixture(scope="module")
def atlas_texts() -> dict[str, list[str]]:
    from mcontriever.shipped import ATLAS
    from mcontriever.texts.documents import read_documents

    texts: dict[str, list[str]] = {}
    for document in read_documents(ATLAS / "train" / "corpus.jsonl"):
        texts.setdefault(document.language, []).append(document.text)
    return texts


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, atlas_texts: dict[str, list[str]]) -> Path:
    return train_tokenizer(atlas_texts, tmp_path_factory.mktemp("vocabulary") / "v", 3000)


def test_the_layout_is_xlmrs(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert len(tokenizer) == tokenizer.vocab_size == 3000
    assert tokenizer.convert_ids_to_tokens([0, 1, 2, 3, 2999]) == ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    assert tokenizer("maji")["input_ids"][0] == 0
    assert tokenizer("maji")["input_ids"][-1] == 2
    pair = tokenizer("maji", "moto")["input_ids"]
    assert pair.count(2) == 3
    assert tokenizer.decode(tokenizer("Maji ya mto.")["input_ids"], skip_special_tokens=True) == "Maji ya mto."
    assert tokenizer.mask_token_id == 2999


def test_pieces_are_sentencepieces_own_one_later(folder: Path, atlas_texts: dict[str, list[str]]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    original = sentencepiece.SentencePieceProcessor(model_file=str(folder / "sentencepiece.bpe.model"))
    for language, texts in atlas_texts.items():
        for text in texts[:10]:
            expected = [piece + 1 if piece else 3 for piece in original.encode(text)]
            assert tokenizer(text, add_special_tokens=False)["input_ids"] == expected, language


def test_a_chinese_word_is_the_same_at_the_beginning_and_within(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    pieces = [piece for piece in tokenizer.get_vocab() if UNSPACED_SCRIPTS.search(piece)]
    assert any(len(piece) > 1 for piece in pieces)
    assert not [piece for piece in pieces if piece.startswith("▁")]
    first, within = tokenizer.tokenize("蜜蜂跳舞"), tokenizer.tokenize("看蜜蜂跳舞")
    assert [piece for piece in first if piece != "▁"] == [piece for piece in within if piece not in ("▁", "看")]
    assert all(piece.startswith("▁") for piece in (tokenizer.tokenize(word)[0] for word in ("maji", "bees", "नदी")))


def test_the_same_texts_give_the_same_bytes(tmp_path: Path, sentences: dict[str, list[str]]) -> None:
    first, second = (train_tokenizer(sentences, tmp_path / name, 200) for name in ("first", "second"))
    for file in sorted(first.iterdir()):
        assert file.read_bytes() == (second / file.name).read_bytes(), file.name


def test_lowercase_gives_a_word_and_its_capital_the_same_pieces(
    tmp_path: Path, sentences: dict[str, list[str]]
) -> None:
    words = ["river", "River", "RIVER"]
    for lowercase, distinct in ((True, 1), (False, 3)):
        folder = train_tokenizer(sentences, tmp_path / f"{lowercase}", 200, lowercase=lowercase)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        cut = {tuple(tokenizer.tokenize(word)) for word in words}
        assert len(cut) == distinct, cut


def test_no_white_space_is_stored_and_the_tokenizer_is_the_same(folder: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.save_pretrained(tmp_path / "roomy")
    (tmp_path / "compact").mkdir()
    write_tokenizer(tokenizer, tmp_path / "compact", max_length=64)
    roomy, compact = (tmp_path / name / "tokenizer.json" for name in ("roomy", "compact"))
    assert compact.read_bytes() == (folder / "tokenizer.json").read_bytes()
    assert b"\n" not in compact.read_bytes()
    assert compact.stat().st_size < roomy.stat().st_size
    prints = {tokenizer_fingerprint(AutoTokenizer.from_pretrained(file.parent)) for file in (roomy, compact)}
    assert prints == {tokenizer_fingerprint(tokenizer)}


def test_a_small_language_keeps_pieces_of_its_own(tmp_path: Path, atlas_texts: dict[str, list[str]]) -> None:
    """Swahili beside 40 times as much English: alpha 0 gives it more pieces of its own than alpha 1."""
    texts = {"en": atlas_texts["en"] * 10, "sw": atlas_texts["sw"][:6]}

    def tokens_of_swahili(alpha: float) -> int:
        made = train_tokenizer(texts, tmp_path / f"{alpha}", 600, alpha=alpha, max_characters=8000)
        tokenizer = AutoTokenizer.from_pretrained(made)
        return sum(len(tokenizer(text)["input_ids"]) for text in atlas_texts["sw"])

    assert tokens_of_swahili(0.0) < 0.9 * tokens_of_swahili(1.0)


def test_too_little_text_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot make 5000 pieces of 1 sentences: Vocabulary size too high"):
        train_tokenizer({"en": ["A short text."]}, tmp_path / "t", 5000)
    with pytest.raises(DataError, match="no text to train a tokenizer on"):
        train_tokenizer({"en": []}, tmp_path / "t", 5000)
    assert list(tmp_path.iterdir()) == []
