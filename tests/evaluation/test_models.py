"""Models that are not ours, tiny and real: which wrapper each folder gets, and that it finds as its library would."""

import shutil
from pathlib import Path

import mteb
import numpy as np
import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file

from mcontriever.encoder import Encoder
from mcontriever.errors import ModelError
from mcontriever.evaluation.known_models import KNOWN, SPLADE, known_settings
from mcontriever.evaluation.models import encoder_search, hub_models, is_centred, refuse_foreign_code, sparse_search
from mcontriever.evaluation.mteb_search import EncoderSearch
from tests.conftest import SENTENCES
from tests.evaluation.test_mteb_encoder import CONTEXT

pytestmark = pytest.mark.filterwarnings("ignore")  # sentence-transformers and MTEB speak of their own futures here

TEXTS = [text for texts in SENTENCES.values() for text in texts]
CORPUS = Dataset.from_dict({"id": [f"d{i}" for i in range(20)], "text": TEXTS})
QUERIES = Dataset.from_dict({"id": ["q0", "q1"], "text": [TEXTS[0], "shamba la maji"]})


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, tiny_encoder_dir: Path) -> dict[str, Path]:
    """The tiny XLM-R as a SPLADE, a ColBERT, a dense model with a layer of its own, and a cross-encoder."""
    from sentence_transformers import CrossEncoder, MultiVectorEncoder, SentenceTransformer, SparseEncoder
    from sentence_transformers.models import Dense, LayerNorm, Pooling, Transformer
    from transformers import AutoConfig, AutoTokenizer, XLMRobertaForMaskedLM, XLMRobertaForSequenceClassification

    home = tmp_path_factory.mktemp("models")
    config, base = AutoConfig.from_pretrained(tiny_encoder_dir), str(tiny_encoder_dir)
    tokenizer = AutoTokenizer.from_pretrained(tiny_encoder_dir)
    torch.manual_seed(0)
    for name, kind in (("masked", XLMRobertaForMaskedLM), ("classifier", XLMRobertaForSequenceClassification)):
        config.num_labels = 1
        kind(config).save_pretrained(home / name)
        tokenizer.save_pretrained(home / name)
    SparseEncoder(str(home / "masked")).save(str(home / "sparse"))
    MultiVectorEncoder(base).save(str(home / "colbert"))
    SentenceTransformer(modules=[Transformer(base), Pooling(32), Dense(32, 16)]).save(str(home / "dense"))
    layers = [Transformer(base), Pooling(32, "cls"), Dense(32, 32, activation_function=torch.nn.Identity())]
    SentenceTransformer(modules=[*layers, LayerNorm(32)], similarity_fn_name="dot").save(str(home / "ance"))
    CrossEncoder(str(home / "classifier")).save(str(home / "cross"))
    return {path.name: path for path in home.iterdir()}


def found(folder: Path) -> np.ndarray:
    """Scores by query and document through MTEB's protocol."""
    search = encoder_search(str(folder), folder.name, "cpu")
    search.index(CORPUS, **CONTEXT, num_proc=None)
    hits = search.search(QUERIES, top_k=20, num_proc=None, **CONTEXT)
    return np.array([[hits[query][f"d{i}"] for i in range(20)] for query in ("q0", "q1")])


def test_a_sparse_encoder_scores_as_sentence_transformers_does(folders: dict[str, Path]) -> None:
    from sentence_transformers import SparseEncoder

    model = SparseEncoder(str(folders["sparse"]), device="cpu")
    queries, documents = model.encode_query(list(QUERIES["text"])), model.encode_document(TEXTS)
    np.testing.assert_allclose(found(folders["sparse"]), model.similarity(queries, documents).numpy(), rtol=1e-4)


def test_a_colbert_scores_as_sentence_transformers_does(folders: dict[str, Path]) -> None:
    from sentence_transformers import MultiVectorEncoder

    model = MultiVectorEncoder(str(folders["colbert"]), device="cpu")
    queries, documents = model.encode_query(list(QUERIES["text"])), model.encode_document(TEXTS)
    np.testing.assert_allclose(found(folders["colbert"]), model.similarity(queries, documents).numpy(), rtol=1e-4)


def test_a_dense_model_with_a_layer_that_ours_lacks_runs_through_its_library(folders: dict[str, Path]) -> None:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folders["dense"]), device="cpu")
    queries, documents = model.encode_query(list(QUERIES["text"])), model.encode_document(TEXTS)
    np.testing.assert_allclose(found(folders["dense"]), model.similarity(queries, documents).numpy(), rtol=1e-4)


def test_ances_layout_is_a_first_vector_a_layer_and_a_norm(folders: dict[str, Path]) -> None:
    """Of msmarco-roberta-base-ance-firstp, text by text through transformers and torch."""
    from transformers import AutoModel, AutoTokenizer

    layer, norm = torch.nn.Linear(32, 32), torch.nn.LayerNorm(32)
    for module, part in ((layer, "2_Dense"), (norm, "3_LayerNorm")):
        weights = load_file(folders["ance"] / part / "model.safetensors")
        module.load_state_dict({name.rpartition(".")[2]: value for name, value in weights.items()})
    tokenizer = AutoTokenizer.from_pretrained(folders["ance"])
    model = AutoModel.from_pretrained(folders["ance"], add_pooling_layer=False).eval()

    def vectors(texts: list[str]) -> np.ndarray:
        hidden = [model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0, 0] for text in texts]
        return norm(layer(torch.stack(hidden))).numpy()

    with torch.no_grad():
        expected = vectors(list(QUERIES["text"])) @ vectors(TEXTS).T
    np.testing.assert_allclose(found(folders["ance"]), expected, rtol=1e-3)


def test_sparta_weighs_pieces_by_their_best_token(folders: dict[str, Path]) -> None:
    """As BEIR's own evaluation: log(1 + relu(max over tokens of h . e_v)), summed over the query's pieces."""
    from transformers import AutoModel, AutoTokenizer

    folder = folders["masked"]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, add_pooling_layer=False).eval()
    expected = np.zeros((2, len(TEXTS)))
    with torch.no_grad():
        for column, text in enumerate(TEXTS):
            hidden_TH = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
            for row, query in enumerate(QUERIES["text"]):
                for piece in set(tokenizer(query, add_special_tokens=False)["input_ids"]) - set(
                    tokenizer.all_special_ids
                ):
                    best = float((hidden_TH @ model.get_input_embeddings().weight[piece]).max())
                    expected[row, column] += np.log1p(max(best, 0))
    search = sparse_search("sparta", str(folder), "sparta", "cpu")
    search.index(CORPUS, **CONTEXT, num_proc=None)
    hits = search.search(QUERIES, top_k=20, num_proc=None, **CONTEXT)
    found_QD = [[hits[query][f"d{i}"] for i in range(20)] for query in ("q0", "q1")]
    np.testing.assert_allclose(found_QD, expected, rtol=1e-3, atol=1e-5)


def test_splade_weighs_pieces_by_the_best_of_a_masked_language_model(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the authors' own evaluation: max over tokens of log(1 + relu(logits)), for queries and documents. A published
    name whose folder holds nothing but the model is read in the same way."""
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folders["masked"])
    model = AutoModelForMaskedLM.from_pretrained(folders["masked"]).eval()

    def weights(text: str) -> np.ndarray:
        with torch.no_grad():
            logits_TV = model(**tokenizer(text, return_tensors="pt")).logits[0]
        return np.log1p(np.maximum(logits_TV.numpy(), 0)).max(axis=0)

    expected = np.stack([weights(text) for text in QUERIES["text"]]) @ np.stack([weights(text) for text in TEXTS]).T
    name = sorted(SPLADE)[0]
    snapshots = tmp_path / f"models--{name.replace('/', '--')}"
    shutil.copytree(folders["masked"], snapshots / "snapshots" / "abc")
    (snapshots / "refs").mkdir()
    (snapshots / "refs" / "main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.file_download.constants.HF_HUB_CACHE", str(tmp_path))
    for search in (sparse_search("splade", str(folders["masked"]), "m", "cpu"), encoder_search(name, "m", "cpu")):
        assert search.encoder.model.max_seq_length <= 256
        search.index(CORPUS, **CONTEXT, num_proc=None)
        hits = search.search(QUERIES, top_k=20, num_proc=None, **CONTEXT)
        scores_QD = [[hits[query][f"d{i}"] for i in range(20)] for query in ("q0", "q1")]
        np.testing.assert_allclose(scores_QD, expected, rtol=1e-3, atol=1e-5)


def test_weights_that_would_be_random_are_refused(tiny_encoder_dir: Path, folders: dict[str, Path]) -> None:
    with pytest.raises(ModelError, match=r"no head trained to predict pieces(.|\n)*sparta: reads plain backbones"):
        sparse_search("splade", str(tiny_encoder_dir), "m", "cpu")
    with pytest.raises(ModelError, match=r"a few bits per number(.|\n)*mcontriever export nano --output FOLDER"):
        sparse_search("sparta", "nano", "m", "cpu")
    assert sparse_search("splade", str(folders["sparse"]), "m", "cpu").encoder.model.max_seq_length <= 256


def test_our_own_folder_runs_packed(tiny_encoder_dir: Path) -> None:
    encoder = Encoder.load(tiny_encoder_dir)
    expected = encoder.embed_queries(list(QUERIES["text"])) @ encoder.embed_documents(TEXTS).T
    np.testing.assert_allclose(found(tiny_encoder_dir), expected, rtol=1e-3)  # in bfloat16 where that is fast
    search = encoder_search(str(tiny_encoder_dir), "tiny", "cpu")
    assert isinstance(search, EncoderSearch)
    assert search.mteb_model_meta.revision == encoder.fingerprint()[:40]


@pytest.mark.parametrize("name", ["cross", "classifier"])
def test_a_cross_encoder_is_refused_with_the_way_to_use_it(folders: dict[str, Path], name: str) -> None:
    with pytest.raises(ModelError, match=rf"a CrossEncoder, which cannot find .*\n.*\n.*bm25\+rerank:.*{name}"):
        encoder_search(str(folders[name]), name, "cpu")


def test_only_single_dense_vectors_are_centred(folders: dict[str, Path], tiny_encoder_dir: Path) -> None:
    def centre(documents: np.ndarray, _: list[str]) -> np.ndarray:
        return documents

    assert is_centred(encoder_search(str(tiny_encoder_dir), "tiny", "cpu", centre))
    assert not is_centred(encoder_search(str(tiny_encoder_dir), "tiny", "cpu"))
    for name in ("sparse", "colbert"):
        assert not is_centred(encoder_search(str(folders[name]), name, "cpu", centre))


def test_other_weights_make_another_revision(folders: dict[str, Path]) -> None:
    revisions = {
        encoder_search(str(folders[name]), name, "cpu").mteb_model_meta.revision for name in ("sparse", "dense")
    }
    assert len(revisions) == 2


def test_hub_names_come_with_the_revision_that_mteb_pins(tiny_encoder_dir: Path) -> None:
    names = [str(tiny_encoder_dir), "nano", "intfloat/multilingual-e5-base", "nobody/unknown-model"]
    found = hub_models(names)
    assert [name for name, _ in found] == ["intfloat/multilingual-e5-base", "nobody/unknown-model"]
    assert len(found[0][1] or "") == 40
    assert found[1][1] is None


def test_a_model_that_brings_code_is_refused() -> None:
    metas = [meta for meta in mteb.get_model_metas() if "trust_remote_code" in str(meta.loader_kwargs)]
    assert len(metas) > 100
    with pytest.raises(
        ModelError, match=r"trust_remote_code: it would run code from the model's repository\n.*convert it"
    ):
        refuse_foreign_code(next(meta for meta in metas if meta.name == "naver/v-splade-quality"))
    refuse_foreign_code(mteb.get_model_meta("intfloat/multilingual-e5-small"))


@pytest.mark.parametrize("name", KNOWN)
def test_known_names_set_what_their_folders_do_not_say(name: str, folders: dict[str, Path]) -> None:
    """A masked language model's folder, as most of them are: the naive form is transformers' own forward."""
    from transformers import AutoModel, AutoTokenizer

    settings = known_settings(name)
    tokenizer = AutoTokenizer.from_pretrained(folders["masked"])
    model = AutoModel.from_pretrained(folders["masked"], add_pooling_layer=False).eval()
    with torch.no_grad():
        hidden_TH = model(**tokenizer(TEXTS[0], return_tensors="pt")).last_hidden_state[0]
    expected_H = (hidden_TH[0] if settings["pooling"] == "cls" else hidden_TH.mean(dim=0)).numpy()
    if settings["similarity"] == "cosine":
        expected_H = expected_H / np.linalg.norm(expected_H)
    found_H = Encoder.load(folders["masked"], **{**settings, "max_length": 64}).embed_documents([TEXTS[0]])[0]
    np.testing.assert_allclose(found_H, expected_H, atol=1e-5)


def test_known_names_are_read_from_the_hubs_cache_with_their_settings(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshots = tmp_path / "models--Luyu--co-condenser-marco"
    shutil.copytree(folders["masked"], snapshots / "snapshots" / "abc")
    (snapshots / "refs").mkdir()
    (snapshots / "refs" / "main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.file_download.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setitem(KNOWN["Luyu/co-condenser-marco"], "max_length", 64)
    search = encoder_search("Luyu/co-condenser-marco", "co-condenser", "cpu")
    assert search.encoder.encoder.pooling == "cls"
    assert search.encoder.encoder.similarity == "dot"
