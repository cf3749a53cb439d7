"""Runs with the objective `distil`: texts and vectors stay together, both stages in pieces, and what is refused."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mcontriever import train
from mcontriever.assembly.distilled_texts import text_batches
from mcontriever.assembly.opened_taught_texts import open_texts
from mcontriever.assembly.training_config import parse_train_config
from mcontriever.config import PretrainData
from mcontriever.config.encoder_section import EncoderSection
from mcontriever.encoder import Encoder
from mcontriever.errors import ConfigError, DataError, StoreError, UserError
from mcontriever.retrieval.embedding.embedding_run import EmbeddingRequest, embed
from mcontriever.texts.documents import read_documents
from mcontriever.tokens import SpecialTokens
from mcontriever.training.checkpoints import checkpoints_of
from mcontriever.training.process_group import join_process_group
from tests.distillation.conftest import ATLAS
from tests.training.tiny_runs import logged, tiny_values

# DeepSpeed's own calls into torch
pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.distributed.*` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:`torch.jit.*` is deprecated:DeprecationWarning"),
]
MOCO = {"kind": "moco", "temperature": 0.1, "queue_size": 20, "momentum": 0.9}
IN_BATCH = {"kind": "inbatch", "temperature": 0.1}


@pytest.fixture
def values(tmp_path: Path, documents: Path, queries: Path, tiny_tokens_dir: Path, tiny_encoder_dir: Path) -> Any:
    values = tiny_values(tmp_path / "run", tiny_tokens_dir, tiny_encoder_dir)
    values["encoder"] = {"name": str(tiny_encoder_dir), "similarity": "cosine"}
    stores = [str(documents), {"store": str(queries), "kind": "queries", "share": 0.5}]
    values["data"] = {"texts": {"stores": stores, "max_tokens": 40}, "window": 48, "languages": ["ar", "en", "sw"]}
    values["objective"] = {"kind": "distil", "contrast": MOCO}
    values["run"] |= {"steps": 4, "log_every": 1}
    return values


@pytest.fixture
def finetune(values: Any, documents: Path, queries: Path) -> Any:
    values["stage"] = "finetune"
    values["data"] = {
        "examples": {"format": "beir", "paths": [str(ATLAS)], "cache": str(documents.parent / "cache")},
        "teacher": {"queries": str(queries), "passages": str(documents)},
        "query_length": 24,
        "passage_length": 48,
    }
    values["objective"] = {"kind": "distil", "contrast": {"kind": "contrastive", "temperature": 0.1}}
    return values


def run(values: Any, **changes: Any) -> Path:
    config = parse_train_config({**values, "run": {**values["run"], **changes}}, "tiny.yaml")
    train.run(config)
    return Path(config.run.output)


def assert_same_end(*runs: Path) -> None:
    for name in ("model/model.safetensors", "optimizer.safetensors", "objective.safetensors"):
        ends = [load_file(checkpoints_of(folder)[-1] / name) for folder in runs]
        assert ends[0].keys() == ends[1].keys()
        assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0]), name


def test_each_text_comes_with_its_own_vector(documents: Path, queries: Path, tmp_path: Path, tokenizer: Any) -> None:
    """From the files alone: what a batch holds is what the teacher says of the very texts that the student sees."""
    stores = [str(documents), {"store": str(queries), "kind": "queries"}]
    data = PretrainData.model_validate({"texts": {"stores": stores, "max_tokens": 30}, "alpha": 0.5})
    section = EncoderSection.model_validate(
        {"architecture": {}, "tokenizer": "x", "query_prefix": "q: ", "document_prefix": "d: "}
    )
    join_process_group()
    opened = open_texts(data, section, tokenizer, tmp_path, seed=2)
    assert opened.unit
    languages = opened.languages
    special = SpecialTokens.of(tokenizer)
    batch = text_batches(opened, 30, languages, None, special=special, first_position=2)(np.arange(200))

    teacher = Encoder.load(documents.parent / "model")
    expected, cut = {}, set()
    for file, prefix, embed_texts in (
        ("corpus.jsonl", "d: ", teacher.embed_documents),
        ("queries.jsonl", "q: ", teacher.embed_queries),
    ):
        found = list(read_documents(ATLAS / file))
        vectors = embed_texts([document.full_text for document in found])
        for document, vector in zip(found, vectors, strict=True):
            ids = tokenizer(prefix + document.full_text, add_special_tokens=False)["input_ids"]
            cut |= {tuple(ids[:30])} if len(ids) > 30 else set()
            expected.setdefault(tuple(ids[:30]), []).append((document.language, vector))
    rows = [row.token_ids_T[1:-1].tolist() for row in batch.taught.split([1] * len(batch.taught))]
    for row, vector, language in zip(rows, batch.teacher_NH.numpy(), batch.language_B.tolist(), strict=True):
        candidates = [known for name, known in expected[tuple(row)] if name == languages[language]]
        assert min(np.abs(vector - known).max() for known in candidates) < 1e-4  # bf16 where that is native
    assert batch.taught.truncated == sum(tuple(row) in cut for row in rows)


def test_a_neutral_teacher_moves_each_language_to_english(
    documents: Path, queries: Path, tmp_path: Path, tokenizer: Any
) -> None:
    """The atlas has the same contents in all languages; from the teacher alone, text by text."""
    section = EncoderSection.model_validate({"architecture": {}, "tokenizer": "x"})
    join_process_group()
    teacher = Encoder.load(documents.parent / "model")
    found = list(read_documents(ATLAS / "corpus.jsonl"))
    vectors = teacher.embed_documents([document.full_text for document in found])
    rows = {name: [row for row, one in enumerate(found) if one.language == name] for name in ("en", "ar")}
    mean = {name: vectors[of_language].mean(0) for name, of_language in rows.items()}

    def drawn(neutral: Any, languages: list[str]) -> np.ndarray:
        texts = {"stores": [str(documents)], "max_tokens": 30, "neutral": neutral}
        data = PretrainData.model_validate({"texts": texts, "languages": languages})
        opened = open_texts(data, section, tokenizer, tmp_path / str(neutral), seed=2).texts
        group_B = np.zeros(len(rows["ar"]), dtype=np.int64)
        return opened.vectors(group_B, np.arange(len(group_B)))

    neutral = {"stores": [str(documents)]}
    np.testing.assert_allclose(drawn(neutral, ["ar"]), vectors[rows["ar"]] + mean["en"] - mean["ar"], atol=1e-4)
    np.testing.assert_allclose(drawn(None, ["ar"]), vectors[rows["ar"]], atol=1e-4)
    np.testing.assert_allclose(drawn(neutral, ["en"])[:5], vectors[rows["en"][:5]], atol=1e-4)
    with pytest.raises(DataError, match="no texts in 'xx', to which"):
        drawn({**neutral, "language": "xx"}, ["ar"])


@pytest.mark.parametrize("kind", ["moco", "tokens", "rounded"])
def test_a_run_in_pieces_equals_the_straight_run_bit_for_bit(
    values: Any, tmp_path: Path, tiny_tokens_dir: Path, kind: str
) -> None:
    if kind == "tokens":  # crops of token shards beside the teacher's texts
        values["data"]["tokens"] = str(tiny_tokens_dir)
        values["objective"]["contrast"] = IN_BATCH
    if kind == "rounded":
        values["encoder"]["rounding"] = "int4-blocks"
        values["objective"] = {"kind": "distil"}
    straight = run(values, output=str(tmp_path / "straight"))
    run(values, stop_at=2)
    pieces = run(values)
    assert logged(pieces) == logged(straight)
    assert_same_end(straight, pieces)
    exported = load_file(straight / "model" / "model.safetensors")
    assert not [name for name in exported if "projection" in name]
    assert Encoder.load(straight / "model").dimension == 32


def test_fine_tuning_learns_from_vectors_and_resumes(finetune: Any, tmp_path: Path) -> None:
    straight = run(finetune, output=str(tmp_path / "straight"))
    run(finetune, stop_at=2)
    assert logged(run(finetune)) == logged(straight)
    assert_same_end(straight, tmp_path / "run")
    finetune["objective"] = {"kind": "distil"}
    finetune["deepspeed"]["optimizer"]["params"]["lr"] = 3e-3
    lines = logged(run(finetune, output=str(tmp_path / "alone"), steps=30, log_every=10))
    assert lines[-1]["loss"] < 0.6 * lines[0]["loss"]
    assert lines[-1]["loss"] < lines[-1]["blind_loss"]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"objective": MOCO}, ConfigError, "data.texts are a teacher's, but the objective moco learns from none"),
        ({"data": {"tokens": "TOKENS"}}, ConfigError, "the objective distil needs a teacher's texts"),
        ({"data": {}}, ConfigError, "give tokens (what mcontriever prepare wrote), or texts (a teacher's stores)"),
        (
            {"objective": {"kind": "distil", "cosine_weight": 0, "scores_weight": 0}},
            ConfigError,
            "cosine_weight and scores_weight are both 0",
        ),
        ({"data": {"texts": {"stores": ["nowhere"]}}}, StoreError, "no store here"),
        (
            {"data": {"texts": {"stores": ["DOCUMENTS"]}, "languages": ["en", "xx"]}},
            DataError,
            "no texts in xx; the teacher's stores have ar, en, fr, hi, sw, zh",
        ),
        (
            {"data": {"texts": {"stores": ["DOCUMENTS"], "longest": 1}}},
            DataError,
            "no texts in any language",
        ),
    ],
    ids=lambda value: None,
)
def test_what_cannot_work_is_refused(
    values: Any, changes: Any, error: type[UserError], message: str, documents: Path, tiny_tokens_dir: Path
) -> None:
    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: filled(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [filled(inner) for inner in value]
        return {"DOCUMENTS": str(documents), "TOKENS": str(tiny_tokens_dir)}.get(value, value)

    with pytest.raises(error) as caught:
        run({**values, **filled(changes)})
    assert message in str(caught.value)


def test_a_store_that_is_none_or_of_two_teachers_is_refused(
    values: Any, documents: Path, queries: Path, tiny_encoder_dir: Path, tmp_path: Path
) -> None:
    corpus = str(ATLAS / "queries.jsonl")
    embed(EmbeddingRequest(corpus=corpus, output=tmp_path / "no-text", model=str(tiny_encoder_dir), keeps_text=False))
    embed(EmbeddingRequest(corpus=corpus, output=tmp_path / "words", model="bm25"))
    embed(EmbeddingRequest(corpus=corpus, output=tmp_path / "other", model=str(tiny_encoder_dir)))
    for stores, message in (
        ([tmp_path / "no-text"], "a teacher's store needs its texts, this one was made with --no-text"),
        ([tmp_path / "words"], "a teacher's store needs vectors, this one was made with bm25"),
        ([documents, tmp_path / "other"], "two teachers: "),
    ):
        values["data"]["texts"]["stores"] = [str(store) for store in stores]
        with pytest.raises(StoreError, match=message):
            run(values)


def test_a_run_does_not_change_its_teacher(values: Any, documents: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(documents, tmp_path / "store")
    values["data"]["texts"]["stores"] = [str(copied)]
    run(values, stop_at=1)
    one = tmp_path / "one.jsonl"
    one.write_text('{"id": "new", "text": "A new text.", "language": "en"}\n')
    embed(EmbeddingRequest(corpus=str(one), output=copied, mode="append"))
    with pytest.raises(StoreError, match="the run began with another teacher's store: content changed since then"):
        run(values)


def test_vectors_of_other_texts_are_refused(finetune: Any, documents: Path, queries: Path, tmp_path: Path) -> None:
    finetune["data"]["teacher"] = {"queries": str(documents), "passages": str(documents)}
    with pytest.raises(StoreError, match=r"no vector for 384 of 384 queries \(it is a store of other texts\)"):
        run(finetune)
    edited = shutil.copytree(ATLAS, tmp_path / "atlas")
    corpus = (edited / "corpus.jsonl").read_text()
    first = next(read_documents(edited / "corpus.jsonl")).text
    (edited / "corpus.jsonl").write_text(corpus.replace(first[:20], "Changed: " + first[:20], 1))
    finetune["data"]["examples"]["paths"] = [str(edited)]
    finetune["data"]["teacher"] = {"queries": str(queries), "passages": str(documents)}
    with pytest.raises(StoreError, match=r"no vector for 1 of 152 passages \(the texts have changed since\)") as caught:
        run(finetune)
    assert "mcontriever embed" in str(caught.value)
    finetune["data"]["teacher"] = None
    with pytest.raises(ConfigError, match="the objective distil needs a teacher's vectors"):
        run(finetune)
    finetune["objective"] = {"kind": "contrastive", "temperature": 0.1}
    finetune["data"]["teacher"] = {"queries": str(queries), "passages": str(documents)}
    with pytest.raises(ConfigError, match=r"data\.teacher is given, but the objective contrastive learns from no"):
        run(finetune)
