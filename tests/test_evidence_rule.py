"""A model's own rule: its formula, its way from the model's folder into a store, and what a search makes of it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from mcontriever.encoder import Encoder
from mcontriever.encoder.saved_model import write_evidence_rule
from mcontriever.encoder.two_encoders import TwoEncoders
from mcontriever.errors import ModelError, StoreError
from mcontriever.evidence_rule import DEFAULT_RULE, OLDER_RULE, EvidenceRule
from mcontriever.retrieval.searcher import Index
from mcontriever.retrieval.store.embedding_store import EmbeddingStore
from mcontriever.retrieval.store.store_manifest import MANIFEST
from tests.conftest import RunCli
from tests.retrieval.small_corpora import make_store, mixed_documents
from tests.retrieval.test_calibrated_search import QUERIES, naive

RULE = EvidenceRule(words=20.0, best=0.5, slope=0.75)
SETTINGS = "config_sentence_transformers.json"


@pytest.fixture
def folder(tiny_encoder_dir: Path, tmp_path: Path) -> Path:
    model = Path(shutil.copytree(tiny_encoder_dir, tmp_path / "model"))
    write_evidence_rule(model, RULE)
    return model


def test_evidence_is_a_parabola_and_then_a_straight_line() -> None:
    z = np.array([-3.0, -1.5, -1.0, 0.0, 0.5, 1.5, 2.5])
    np.testing.assert_allclose(EvidenceRule(slope=None).of_scores(z), z * np.abs(z) / 2)
    expected = [-3.375, -1.125, -0.5, 0.0, 0.125, 1.125, 2.625]
    np.testing.assert_allclose(EvidenceRule(slope=1.5).of_scores(z), expected)
    np.testing.assert_allclose(RULE.of_words(np.array([0.8, 0.0]), np.array([0.8, 0.4])), [8.0, -4.0])


def test_a_folder_keeps_it_and_other_libraries_do_not_mind(folder: Path, tiny_encoder_dir: Path) -> None:
    plain, encoder = Encoder.load(tiny_encoder_dir), Encoder.load(folder)
    assert (plain.evidence_rule, encoder.evidence_rule) == (None, RULE)
    assert (encoder.spec(), encoder.fingerprint()) == (plain.spec(), plain.fingerprint())
    assert Encoder.load(encoder.save(folder.parent / "again")).evidence_rule == RULE
    np.testing.assert_allclose(
        SentenceTransformer(str(folder), device="cpu").encode(["river"]), encoder.embed_queries(["river"]), atol=1e-5
    )
    assert TwoEncoders(plain, encoder).evidence_rule == RULE
    assert encoder.train().evidence_rule == RULE  # what is trained from it resembles it more than the default


def test_a_trimmed_model_keeps_it_while_all_layers_stay(
    folder: Path, tmp_path: Path, cli: RunCli, sentences: dict[str, list[str]]
) -> None:
    (tmp_path / "text").mkdir()
    lines = [json.dumps({"id": str(n), "language": "en", "text": text}) for n, text in enumerate(sentences["en"])]
    (tmp_path / "text" / "en.jsonl").write_text("\n".join(lines))
    for name, options in (("pieces", ["--text", tmp_path / "text"]), ("layers", ["--layers", "0"])):
        done = cli("trim", folder, *options, "--output", tmp_path / name)
        assert done.returncode == 0, done.stderr
    assert Encoder.load(tmp_path / "pieces").evidence_rule == RULE
    assert Encoder.load(tmp_path / "layers").evidence_rule is None


@pytest.mark.parametrize(
    ("wrong", "named"),
    [({"words": -1}, "evidence_rule.words"), ({"best": "half"}, "evidence_rule.best"), ({"slope": 0}, "slope")],
)
def test_a_damaged_one_is_named(folder: Path, wrong: dict[str, object], named: str) -> None:
    values = json.loads((folder / SETTINGS).read_text())
    (folder / SETTINGS).write_text(json.dumps({**values, "evidence_rule": wrong}))
    with pytest.raises(ModelError, match=named) as caught:
        Encoder.load(folder)
    assert SETTINGS in str(caught.value)


@pytest.mark.parametrize("mode", ["dense", "hybrid"])
def test_a_store_is_searched_by_the_rule_of_the_model_that_made_it(folder: Path, tmp_path: Path, mode: str) -> None:
    ruled, plain = Encoder.load(folder), Encoder.load(folder)
    plain.evidence_rule = None
    documents = mixed_documents(90)
    store = make_store(tmp_path / "ruled", documents, ruled, model=str(folder), dtype="fp32")
    default = make_store(tmp_path / "default", documents, plain, model=str(folder), dtype="fp32")
    assert (store.evidence_rule, default.evidence_rule) == (RULE, DEFAULT_RULE)
    assert store.manifest.rows_fingerprint() == default.manifest.rows_fingerprint()
    for one, encoder in ((store, plain), (default, ruled)):  # whatever the model says now
        expected = np.sort(naive(one, encoder, QUERIES[0], hybrid=mode == "hybrid"))[::-1][:10]
        hits = Index(one, encoder=encoder).search(QUERIES[0], k=10, mode=mode, depth=90)
        assert [hit.score for hit in hits] == pytest.approx(expected.tolist(), abs=2e-3)
    assert abs(expected[0] - Index(store, encoder=ruled).search(QUERIES[0], mode=mode, depth=90)[0].score) > 0.1


def test_an_older_store_has_the_default_of_its_time_and_is_added_to_as_it_is(folder: Path, tmp_path: Path) -> None:
    ruled = Encoder.load(folder)
    documents = mixed_documents(40)
    made = make_store(tmp_path / "store", documents, ruled, model=str(folder))
    values = json.loads((tmp_path / "store" / MANIFEST).read_text())
    del values["layout"]["encoder"]["evidence_rule"]
    (tmp_path / "store" / MANIFEST).write_text(json.dumps(values))
    older = EmbeddingStore.open(tmp_path / "store")
    assert older.evidence_rule == OLDER_RULE
    assert older.manifest.rows_fingerprint() == made.manifest.rows_fingerprint()
    same = make_store(tmp_path / "store", documents, ruled, model=str(folder))  # the same command: done already
    assert same.manifest.generation == older.manifest.generation
    values["layout"]["encoder"]["evidence_rule"] = {"words": "many"}
    (tmp_path / "store" / MANIFEST).write_text(json.dumps(values))
    with pytest.raises(StoreError, match=r"evidence_rule\.words"):
        EmbeddingStore.open(tmp_path / "store")
