"""ColBERT in its authors' layout and in PyLate's, against the score as its paper has it, text by text."""

import json
import shutil
import string
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file, save_file

from mcontriever.encoder import Encoder
from mcontriever.errors import ModelError
from mcontriever.evaluation.models import encoder_search
from tests.evaluation.test_mteb_encoder import CONTEXT

pytestmark = pytest.mark.filterwarnings("ignore")  # sentence-transformers speaks of its own future

PASSAGES = ["the river rises in the hills .", "a baker mixes flour , water and salt", "corals grow in warm water"]
QUESTIONS = ["where does the river rise ?", "what grows in water"]
QUERY_LENGTH, DIMENSION = 12, 8


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT with `linear.weight` beside its own weights and an artifact.metadata, as colbert-ir/colbertv2.0."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("colbert") / "authors"
    folder.mkdir()
    words = sorted({word for text in (*PASSAGES, *QUESTIONS) for word in text.split()} | set(string.punctuation))
    vocabulary = ["[PAD]", "[unused0]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64, initializer_range=0.5,
    )  # fmt: skip
    weights = {f"bert.{name}": value for name, value in BertModel(config).state_dict().items()}
    weights["linear.weight"] = torch.randn(DIMENSION, 16)
    save_file(
        {name: value.contiguous() for name, value in weights.items()}, folder / "model.safetensors", {"format": "pt"}
    )
    (folder / "config.json").write_text(json.dumps({**config.to_dict(), "architectures": ["HF_ColBERT"]}))
    metadata = {
        "query_token_id": "[unused0]", "doc_token_id": "[unused1]", "query_maxlen": QUERY_LENGTH, "doc_maxlen": 40,
        "dim": DIMENSION, "mask_punctuation": True, "attend_to_mask_tokens": False,
    }  # fmt: skip
    (folder / "artifact.metadata").write_text(json.dumps(metadata))
    return folder


def naive_scores(folder: Path) -> np.ndarray:
    """Queries are filled up with masks that nobody attends to; punctuation of passages does not count."""
    from transformers import AutoTokenizer, BertConfig, BertModel

    weights = load_file(folder / "model.safetensors")
    model = BertModel(BertConfig.from_pretrained(folder)).eval()
    model.load_state_dict({name[len("bert.") :]: value for name, value in weights.items() if name.startswith("bert.")})
    tokenizer = AutoTokenizer.from_pretrained(folder)
    vocabulary = tokenizer.get_vocab()

    def vectors(text: str, mark: str, fill: int) -> tuple[list[str], torch.Tensor]:
        pieces = ["[CLS]", mark, *text.split(), "[SEP]"]
        attended = [1] * len(pieces) + [0] * (fill - len(pieces))
        pieces += ["[MASK]"] * (fill - len(pieces))
        ids = torch.tensor([[vocabulary[piece] for piece in pieces]])
        with torch.no_grad():
            hidden_TH = model(ids, attention_mask=torch.tensor([attended])).last_hidden_state[0]
        return pieces, torch.nn.functional.normalize(hidden_TH @ weights["linear.weight"].T, dim=1)

    scores = np.zeros((len(QUESTIONS), len(PASSAGES)))
    for row, question in enumerate(QUESTIONS):
        _, query_TD = vectors(question, "[unused0]", QUERY_LENGTH)
        for column, passage in enumerate(PASSAGES):
            pieces, passage_TD = vectors(passage, "[unused1]", 0)
            counted = [place for place, piece in enumerate(pieces) if piece not in string.punctuation]
            scores[row, column] = float((query_TD @ passage_TD[counted].T).max(dim=1).values.sum())
    return scores


def found(folder: Path) -> np.ndarray:
    search = encoder_search(str(folder), folder.name, "cpu")
    search.index(Dataset.from_dict({"id": ["d0", "d1", "d2"], "text": PASSAGES}), **CONTEXT, num_proc=None)
    hits = search.search(Dataset.from_dict({"id": ["q0", "q1"], "text": QUESTIONS}), top_k=3, num_proc=None, **CONTEXT)
    return np.array([[hits[query][f"d{number}"] for number in range(3)] for query in ("q0", "q1")])


def test_a_checkpoint_of_its_authors_is_scored_by_maxsim(checkpoint: Path) -> None:
    np.testing.assert_allclose(found(checkpoint), naive_scores(checkpoint), rtol=1e-4)


def test_pylates_layout_is_scored_alike(checkpoint: Path, tmp_path: Path) -> None:
    from sentence_transformers import MultiVectorEncoder

    saved = tmp_path / "saved"
    MultiVectorEncoder(str(checkpoint), device="cpu").save(str(saved))
    folder = tmp_path / "pylate"
    shutil.copytree(saved, folder)
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Dense", "type": "pylate.models.Dense.Dense"},
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    settings = {
        "__version__": {"sentence_transformers": "4.0.2"}, "prompts": {}, "default_prompt_name": None,
        "similarity_fn_name": "MaxSim", "query_prefix": "[unused0] ", "document_prefix": "[unused1] ",
        "query_length": QUERY_LENGTH, "document_length": 40, "attend_to_expansion_tokens": False,
        "skiplist_words": list(string.punctuation),
    }  # fmt: skip
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))
    np.testing.assert_allclose(found(folder), naive_scores(checkpoint), rtol=1e-4)


def test_it_is_never_read_as_one_vector_a_text(checkpoint: Path) -> None:
    with pytest.raises(
        ModelError, match=r"a vector for each token and not one for a text\n.*\n.*mcontriever benchmark"
    ):
        Encoder.load(checkpoint)
