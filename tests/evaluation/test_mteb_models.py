"""MTEB's own ways to a model: by name, as an object, from a folder; and the metadata that its leaderboard asks for."""

import json
from pathlib import Path

import mteb
import numpy as np
import pytest
from datasets import Dataset
from mteb.models import ModelMeta
from mteb.types import PromptType
from torch.utils.data import DataLoader

from mcontriever import Encoder, mteb_model
from mcontriever.errors import ModelError
from mcontriever.evaluation.beir_tasks import beir_task
from mcontriever.evaluation.mteb_models import mteb_command, register
from mcontriever.evaluation.official_tasks import find_snapshot
from tests.conftest import SENTENCES
from tests.evaluation.conftest import QUESTIONS

TEXTS = ["a river", "jua", "太阳"]
COMPLETE = (
    "name", "revision", "release_date", "languages", "n_parameters", "n_embedding_parameters", "memory_usage_mb",
    "max_tokens", "embed_dim", "license", "open_weights", "public_training_code", "public_training_data", "framework",
    "similarity_fn_name", "training_datasets", "loader",
)  # fmt: skip


def embedded(model: object) -> np.ndarray:
    loader = DataLoader(Dataset.from_dict({"text": TEXTS}), batch_size=2)
    return model.encode(  # type: ignore[attr-defined]
        loader, prompt_type=PromptType.query, task_metadata=mteb.get_task("NFCorpus").metadata, hf_split="test",
        hf_subset="default",
    )  # fmt: skip


@pytest.mark.parametrize(("name", "parameters"), [("nano", 96_000 * 512), ("mini", 90_000 * 384 + 9 * 12 * 384**2)])
def test_mteb_knows_the_bundled_models_by_name(name: str, parameters: int) -> None:
    """Complete, valid for MTEB as the results repository keeps it, and what the loaded model has."""
    meta = mteb.get_model_meta(f"mcontriever/{name}")
    assert not [fact for fact in COMPLETE if getattr(meta, fact) is None]
    assert {"ara-Arab", "swa-Latn", "eng-Latn"} <= set(meta.languages or [])
    assert meta.n_parameters == pytest.approx(parameters, rel=0.02)
    kept = {fact: value for fact, value in meta.to_dict().items() if fact in ModelMeta.model_fields}
    stored = ModelMeta.model_validate({**kept, "loader": None})
    assert stored.model_dump(exclude={"loader"}) == meta.model_dump(exclude={"loader"})
    assert meta.is_zero_shot_on([mteb.get_task("NFCorpus")])
    assert not meta.is_zero_shot_on([mteb.get_task("MrTidyRetrieval")])
    assert not meta.is_zero_shot_on([mteb.get_task("JaQuADRetrieval")])
    model = mteb.get_model(f"mcontriever/{name}", device="cpu")
    how_it_is_loaded = {"loader", "loader_kwargs"}
    assert model.mteb_model_meta.model_dump(exclude=how_it_is_loaded) == meta.model_dump(exclude=how_it_is_loaded)
    encoder = Encoder.load(name)
    assert meta.revision == encoder.fingerprint()[:40]
    np.testing.assert_allclose(embedded(model), encoder.embed_queries(TEXTS), atol=1e-2)


def test_a_model_has_read_what_its_ancestor_read() -> None:
    """mini is multilingual-e5-small with fewer pieces, so it has seen MIRACL too."""
    meta = mteb_model("mini").mteb_model_meta
    assert meta.training_datasets >= mteb.get_model_meta("intfloat/multilingual-e5-small").training_datasets
    assert not meta.is_zero_shot_on([mteb.get_task("MIRACLRetrieval")])
    assert meta.is_zero_shot_on([mteb.get_task("NFCorpus")])


@pytest.mark.parametrize("by_folder", [False, True])
def test_mtebs_own_command_runs_a_model_by_name_and_by_folder(
    hub_copy: Path, tiny_encoder_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_folder: bool
) -> None:
    """`python -m mcontriever.evaluation.mteb_models run ...` is MTEB's command with our names; the task is cut down."""
    task = mteb.get_task("NanoNFCorpusRetrieval")
    dataset = task.metadata.dataset
    there = {**dataset, "path": str(find_snapshot(hub_copy, dataset["path"], dataset["revision"]))}
    monkeypatch.setattr(type(task), "metadata", task.metadata.model_copy(update={"dataset": there}))
    monkeypatch.setattr("sys.argv", ["mteb"])
    model = str(tiny_encoder_dir) if by_folder else register("tiny-of-the-command", tiny_encoder_dir).name
    mteb_command(["run", "-m", str(model), "-t", "NanoNFCorpusRetrieval", "--output-folder", str(tmp_path)])
    (file,) = tmp_path.rglob("NanoNFCorpusRetrieval.json")
    found = json.loads(file.read_text())["scores"]["train"][0]["ndcg_at_10"]
    encoder = Encoder.load(tiny_encoder_dir)
    scores_QD = encoder.embed_queries(QUESTIONS["en"]) @ encoder.embed_documents(SENTENCES["en"]).T
    ranks_Q = (-scores_QD).argsort(axis=1).argsort(axis=1).diagonal()
    assert found == pytest.approx(float(np.mean(1 / np.log2(ranks_Q + 2))), abs=1e-3)


def test_a_task_of_mteb_runs_with_an_encoder_and_with_a_registered_folder(
    mixed_folder: Path, tiny_encoder_dir: Path
) -> None:
    register("tiny-of-a-test", tiny_encoder_dir)
    models = [mteb_model(Encoder.load(tiny_encoder_dir)), mteb.get_model("mcontriever/tiny-of-a-test", device="cpu")]
    found = []
    for model in models:
        result = mteb.evaluate(model, beir_task(mixed_folder), cache=None, co2_tracker=False, show_progress_bar=False)
        found.append(result.task_results[0].get_score())
    assert found[0] == pytest.approx(found[1], abs=1e-3)
    assert 0 < found[0] < 1


def test_a_bare_encoder_says_how_it_is_given(tiny_encoder_dir: Path, mixed_folder: Path) -> None:
    with pytest.raises(
        ModelError, match=r"take a bare Encoder\n  fix: mteb\.evaluate\(mcontriever\.mteb_model\(encoder\), tasks"
    ):
        mteb.evaluate(Encoder.load(tiny_encoder_dir), beir_task(mixed_folder), cache=None)


def test_a_card_that_mteb_refuses_is_named(tiny_encoder_dir: Path, tmp_path: Path) -> None:
    Encoder.load(tiny_encoder_dir).save(tmp_path / "model")
    (tmp_path / "model" / "README.md").write_text("---\nlanguage: sw\nlicense: mine alone\n---\n")
    with pytest.raises(ModelError, match=r"MTEB does not accept license: 'mine alone'\n.*README\.md\n.*front matter"):
        mteb_model(tmp_path / "model")
    (tmp_path / "model" / "README.md").write_text("---\nlanguage: sw\nlicense: mit\nbase_model: some/model\n---\n")
    meta = mteb_model(tmp_path / "model").mteb_model_meta
    assert (meta.languages, meta.license, meta.adapted_from) == (["swa-Latn"], "mit", "some/model")
