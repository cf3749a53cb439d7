"""Embedding with --precision int8: every rank, and a resumed run, rounds as the first documents say."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mcontriever.encoder import Encoder
from mcontriever.retrieval.embedding import shard_embedding
from mcontriever.retrieval.store.store_manifest import read_manifest
from tests.retrieval.small_corpora import all_vectors, make_store, mixed_documents


def test_all_shards_share_ranges_that_the_first_documents_gave(
    tiny_encoder_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard_embedding, "CALIBRATION_DOCUMENTS", 7)
    documents = mixed_documents(20)
    encoder = Encoder.load(tiny_encoder_dir, precision="int8")
    store = make_store(tmp_path / "store", documents, encoder, dtype="fp32", shard_documents=6)
    expected = Encoder.load(tiny_encoder_dir, precision="int8")
    expected.calibrate([f"{document.title} {document.text}".strip() for document in documents[:7]])
    assert expected.int8_ranges is not None
    assert encoder.int8_ranges is not None
    assert all(torch.equal(expected.int8_ranges[name], encoder.int8_ranges[name]) for name in expected.int8_ranges)
    vectors = expected.embed_documents(
        [document.text for document in documents], titles=[document.title for document in documents]
    )
    np.testing.assert_allclose(all_vectors(store), vectors, atol=1e-5)
    assert len(read_manifest(tmp_path / "store").shards) == 4
