"""DPR's two checkpoints against transformers' own classes for them, text by text."""

import shutil
from pathlib import Path
from typing import Any

import mteb
import numpy as np
import pytest
import torch
from datasets import Dataset

from mcontriever.encoder import Encoder
from mcontriever.errors import ModelError
from mcontriever.evaluation.models import two_encoders_search
from mcontriever.tokens import load_tokenizer
from tests.conftest import SENTENCES, RunCli

PASSAGES = [*SENTENCES["en"], *SENTENCES["sw"]]
QUESTIONS = ["Where does the river rise?", "Mwokaji huchanganya nini?"]
CONTEXT: dict[str, Any] = {
    "task_metadata": mteb.get_task("NFCorpus").metadata,
    "hf_split": "test",
    "hf_subset": "default",
    "encode_kwargs": {},
}


@pytest.fixture(scope="module")
def dpr(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer_dir: Path) -> dict[str, Path]:
    """A question and a context encoder of 16 dimensions with weights of their own, saved as the hub has them."""
    from transformers import DPRConfig, DPRContextEncoder, DPRQuestionEncoder

    home, tokenizer = tmp_path_factory.mktemp("dpr"), load_tokenizer(str(tiny_tokenizer_dir))
    config = DPRConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=260, pad_token_id=tokenizer.pad_token_id, initializer_range=0.5,
    )  # fmt: skip
    torch.manual_seed(1)
    for name, kind in (("questions", DPRQuestionEncoder), ("passages", DPRContextEncoder)):
        kind(config).save_pretrained(home / name)
        tokenizer.save_pretrained(home / name)
    return {path.name: path for path in home.iterdir()}


def by_transformers(folder: Path, kind: str, texts: list[str]) -> np.ndarray:
    import transformers

    tokenizer = load_tokenizer(str(folder))
    model = getattr(transformers, kind).from_pretrained(folder).eval()
    with torch.no_grad():
        return np.stack([model(**tokenizer(text, return_tensors="pt")).pooler_output[0].numpy() for text in texts])


def test_scores_are_the_dot_products_of_dprs_own_classes(dpr: dict[str, Path], tmp_path: Path, cli: RunCli) -> None:
    search = two_encoders_search(str(dpr["questions"]), str(dpr["passages"]), "dpr", "cpu")
    search.index(Dataset.from_dict({"id": [f"d{n}" for n in range(len(PASSAGES))], "text": PASSAGES}), **CONTEXT)
    asked = Dataset.from_dict({"id": ["q0", "q1"], "text": QUESTIONS})
    hits = search.search(asked, top_k=len(PASSAGES), **CONTEXT)
    expected = (
        by_transformers(dpr["questions"], "DPRQuestionEncoder", QUESTIONS)
        @ by_transformers(dpr["passages"], "DPRContextEncoder", PASSAGES).T
    )
    found = np.array([[hits[query][f"d{n}"] for n in range(len(PASSAGES))] for query in ("q0", "q1")])
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
    done = cli("export", f"dpr:{dpr['questions']},{dpr['passages']}", "--output", tmp_path / "one")
    assert done.returncode == 0, done.stderr
    both = Encoder.load(tmp_path / "one")
    np.testing.assert_allclose(both.embed_queries(QUESTIONS) @ both.embed_documents(PASSAGES).T, expected, atol=1e-3)
    turned = two_encoders_search(str(dpr["passages"]), str(dpr["questions"]), "dpr", "cpu")
    assert turned.mteb_model_meta.revision != search.mteb_model_meta.revision


def test_a_title_is_a_segment_of_its_own(dpr: dict[str, Path], tmp_path: Path) -> None:
    """As DPR reads a passage: BERT's form for two texts, without token types."""
    from transformers import BertTokenizerFast, DPRContextEncoder, DPRQuestionEncoder

    words = sorted({word for text in PASSAGES for word in text.lower().split()})
    title = " ".join(words[:2])
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]))
    tokenizer = BertTokenizerFast(str(tmp_path / "vocab.txt"))
    for side, folder in dpr.items():
        shutil.copytree(folder, tmp_path / side, ignore=shutil.ignore_patterns("token*", "special*", "sentence*"))
        tokenizer.save_pretrained(tmp_path / side)
    search = two_encoders_search(str(tmp_path / "questions"), str(tmp_path / "passages"), "dpr", "cpu")
    search.index(Dataset.from_dict({"id": ["d"], "title": [title], "text": PASSAGES[:1]}), **CONTEXT)
    hits = search.search(Dataset.from_dict({"id": ["q"], "text": QUESTIONS[:1]}), top_k=1, **CONTEXT)
    passage = tokenizer(title, PASSAGES[0], return_tensors="pt", return_token_type_ids=False)
    assert (passage["input_ids"] == tokenizer.sep_token_id).sum() == 2
    question = tokenizer(QUESTIONS[0], return_tensors="pt")
    with torch.no_grad():
        passage_H = DPRContextEncoder.from_pretrained(dpr["passages"]).eval()(**passage).pooler_output[0]
        question_H = DPRQuestionEncoder.from_pretrained(dpr["questions"]).eval()(**question).pooler_output[0]
    assert hits["q"]["d"] == pytest.approx(float(question_H @ passage_H), rel=1e-3)


def test_two_folders_of_ours_are_a_pair_too_and_must_agree(dpr: dict[str, Path], tiny_encoder_dir: Path) -> None:
    search = two_encoders_search(str(tiny_encoder_dir), str(tiny_encoder_dir), "pair", "cpu")
    search.index(Dataset.from_dict({"id": ["d"], "text": PASSAGES[:1]}), **CONTEXT)
    hits = search.search(Dataset.from_dict({"id": ["q"], "text": QUESTIONS[:1]}), top_k=1, **CONTEXT)
    encoder = Encoder.load(tiny_encoder_dir)
    expected = float(encoder.embed_queries(QUESTIONS[:1])[0] @ encoder.embed_documents(PASSAGES[:1])[0])
    assert hits == {"q": {"d": pytest.approx(expected, rel=1e-2)}}
    with pytest.raises(ModelError, match=r"queries' encoder has dimension 16, the passages' 32\n.*trained together"):
        two_encoders_search(str(dpr["questions"]), str(tiny_encoder_dir), "pair", "cpu")
