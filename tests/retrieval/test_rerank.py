"""rerank.py against the cross-encoder's own forward pass, pair by pair."""

from pathlib import Path

import pytest
import torch

from mcontriever.errors import ModelError
from mcontriever.retrieval.rerank import Reranker
from mcontriever.retrieval.searcher import Index
from mcontriever.retrieval.store.embedding_store import EmbeddingStore
from mcontriever.tokens import load_tokenizer


def save_cross_encoder(folder: Path, tokenizer_dir: Path, labels: int = 1) -> Path:
    from transformers import XLMRobertaConfig, XLMRobertaForSequenceClassification

    tokenizer = load_tokenizer(str(tokenizer_dir))
    torch.manual_seed(3)
    config = XLMRobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=260,
        num_labels=labels,
        initializer_range=0.8,
    )
    XLMRobertaForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def cross_encoder_dir(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer_dir: Path) -> Path:
    return save_cross_encoder(tmp_path_factory.mktemp("cross") / "tiny", tiny_tokenizer_dir)


def test_hits_are_ordered_by_the_cross_encoder(mixed_store: EmbeddingStore, cross_encoder_dir: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    query = "Rain falls on the hills"
    before = Index(mixed_store).search(query, k=12, merge="raw")
    index = Index(mixed_store, reranker=Reranker.load(str(cross_encoder_dir)))
    hits = index.search(query, k=5, depth=12, merge="raw")
    model = AutoModelForSequenceClassification.from_pretrained(cross_encoder_dir).eval()
    tokenizer = AutoTokenizer.from_pretrained(cross_encoder_dir)
    expected = {}
    for hit in before:
        inputs = tokenizer(query, f"{hit.title} {hit.text}".strip(), return_tensors="pt", truncation=True)
        with torch.no_grad():
            expected[hit.id] = torch.sigmoid(model(**inputs).logits).item()
    wanted = sorted(expected, key=lambda name: -expected[name])[:5]
    assert [hit.id for hit in hits] == wanted
    for hit in hits:
        assert hit.score == pytest.approx(expected[hit.id], abs=1e-4)
        assert hit.parts["reranker"] == hit.score
        assert hit.parts["dense_rank"] == [one.id for one in before].index(hit.id) + 1


def test_what_is_no_reranker(tmp_path: Path, tiny_tokenizer_dir: Path) -> None:
    with pytest.raises(ModelError, match=r"no such folder\n.*nothing"):
        Reranker.load(str(tmp_path / "nothing"))
    three = save_cross_encoder(tmp_path / "three", tiny_tokenizer_dir, labels=3)
    with pytest.raises(ModelError, match="gives 3 scores for a pair, one is needed"):
        Reranker.load(str(three))


def test_an_encoder_without_a_head_is_refused(tiny_encoder_dir: Path) -> None:
    with pytest.raises(
        ModelError, match=r"no head trained to score pairs; .* random\n.*tiny\n.*ForSequenceClassification"
    ):
        Reranker.load(str(tiny_encoder_dir))


def test_no_pairs_no_scores(cross_encoder_dir: Path) -> None:
    assert Reranker.load(str(cross_encoder_dir)).scores([]) == []
