"""output_folder.py: new, empty and own folders are accepted; whatever else is in the way stays and is named."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mcontriever import benchmark, export, prepare, tokenizer
from mcontriever.config import load_recipe
from mcontriever.encoder import Encoder
from mcontriever.errors import StoreError
from mcontriever.finetuning.part_folder import PARTS
from mcontriever.output_folder import FolderKind
from mcontriever.retrieval.embedding.embedding_run import EmbeddingRequest, embed
from mcontriever.shipped import ATLAS
from tests.test_disk import files_of_at_most

MODEL = FolderKind("model", marks=("modules.json",), files=("*.json", "*.safetensors", "1_Pooling/config.json"))


def fill(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("content")
    return folder


def accepted(folder: Path) -> set[str]:
    """Which of the three ways to write into this folder are accepted."""
    ways = {
        "add": lambda: MODEL.require_own(folder),
        "replace": lambda: MODEL.require_replaceable(folder, overwrite=False),
        "overwrite": lambda: MODEL.require_replaceable(folder, overwrite=True),
    }
    found = set()
    for name, way in ways.items():
        try:
            way()
            found.add(name)
        except StoreError:
            pass
    return found


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (None, {"add", "replace", "overwrite"}),
        ([], {"add", "replace", "overwrite"}),
        ([".lock", ".lock-rank-1", ".partial-12-x"], {"add", "replace", "overwrite"}),
        (["modules.json", "model.safetensors", "1_Pooling/config.json"], {"add", "overwrite"}),
        (["modules.json", "thesis.pdf"], {"add"}),
        (["modules.json", "1_Pooling/thesis.pdf"], {"add"}),
        (["modules.json", ".git/config"], {"add"}),
        (["thesis.pdf"], set()),
        ([".bashrc"], set()),
        (["config.json"], set()),
        (["sub/modules.json"], set()),
    ],
)
def test_what_may_be_written_into(tmp_path: Path, names: list[str] | None, expected: set[str]) -> None:
    folder = tmp_path / "out"
    if names is not None:
        folder.mkdir()
        fill(folder, *names)
    before = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*"))
    assert accepted(folder) == expected
    assert sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*")) == before


def test_links_and_empty_folders_inside_are_strangers(tmp_path: Path) -> None:
    folder = fill(tmp_path / "out", "modules.json")
    (folder / "link").symlink_to(tmp_path)
    assert accepted(folder) == {"add"}
    (folder / "link").unlink()
    (folder / "empty").mkdir()
    assert accepted(folder) == {"add"}


def test_a_file_and_a_dangling_link_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name in ("file", "dangling"):
        with pytest.raises(StoreError, match=r"this is a file, but the output is a folder\n"):
            MODEL.require_own(tmp_path / name)
    assert (tmp_path / "file").read_text() == "precious"


def test_messages_name_what_is_in_the_way(tmp_path: Path) -> None:
    folder = fill(tmp_path / "out", "b", "a", "c", "d", "e", "f")
    with pytest.raises(StoreError, match=r"not empty and is not a model: it holds a, b, c, d, e \.\.\.\n"):
        MODEL.require_own(folder)
    fill(folder, "modules.json")
    with pytest.raises(StoreError, match=r"files that do not belong to a model: a, b, c, d, e \.\.\.\n"):
        MODEL.require_replaceable(folder, overwrite=True)
    own = fill(tmp_path / "own", "modules.json")
    with pytest.raises(StoreError, match=r"there is a model here already\n.*\n  fix: .*--overwrite"):
        MODEL.require_replaceable(own, overwrite=False)


Verb = Callable[[Path, Path], object]
VERBS: dict[str, Verb] = {
    "tokenizer": lambda folder, model: tokenizer.run(load_recipe("atlas"), folder, vocabulary=300),
    "tokenizer --overwrite": lambda folder, model: tokenizer.run(
        load_recipe("atlas"), folder, vocabulary=300, overwrite=True
    ),
    "prepare": lambda folder, model: prepare.run(load_recipe("atlas"), folder, str(model), workers=1),
    "prepare --restart": lambda folder, model: prepare.run(
        load_recipe("atlas"), folder, str(model), workers=1, restart=True
    ),
    "export": lambda folder, model: export.run(str(model), folder),
    "export --overwrite": lambda folder, model: export.run(str(model), folder, overwrite=True),
    "Encoder.save": lambda folder, model: Encoder.load(model).save(folder, overwrite=True),
    "embed": lambda folder, model: embed(EmbeddingRequest(str(ATLAS / "train"), folder, model="bm25")),
    "benchmark": lambda folder, model: benchmark.run(benchmark.Request(models=["bm25"], suite="atlas", output=folder)),
    "mine, generate": lambda folder, model: PARTS.require_own(folder),
}


@pytest.mark.parametrize("verb", VERBS)
def test_no_verb_touches_what_is_the_users(tmp_path: Path, verb: str, tiny_encoder_dir: Path) -> None:
    folder = fill(tmp_path / "home", "thesis.txt", ".ssh/key")
    file = fill(tmp_path, "passwd") / "passwd"
    for output in (folder, file):
        with pytest.raises(StoreError, match=r"it holds \.ssh, thesis\.txt|this is a file"):
            VERBS[verb](output, tiny_encoder_dir)
    assert file.read_text() == "content"
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) == [".ssh", ".ssh/key", "thesis.txt"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "passwd"]


def test_a_model_with_other_files_beside_it_is_not_replaced(tmp_path: Path, tiny_encoder_dir: Path) -> None:
    encoder = Encoder.load(tiny_encoder_dir)
    folder = encoder.save(tmp_path / "model")
    with pytest.raises(StoreError, match="there is a model here already"):
        encoder.save(folder)
    encoder.save(folder, card="new", overwrite=True)
    assert (folder / "README.md").read_text() == "new"
    fill(folder, "1_Pooling/thesis.txt")
    with pytest.raises(StoreError, match=r"do not belong to a model: 1_Pooling/thesis\.txt"):
        encoder.save(folder, overwrite=True)
    assert (folder / "1_Pooling/thesis.txt").read_text() == "content"


@pytest.mark.parametrize("verb", ["tokenizer", "prepare", "export"])
def test_a_full_disk_is_one_message_and_leaves_nothing_half_written(
    tmp_path: Path, verb: str, tiny_encoder_dir: Path
) -> None:
    with (
        pytest.raises(StoreError, match=r"the file would be larger than may be written here\n  where: .*out"),
        files_of_at_most(2048),
    ):
        VERBS[verb](tmp_path / "out", tiny_encoder_dir)
    assert not {"tokenizer.json", "manifest.json", "config.json"} & {path.name for path in tmp_path.rglob("*")}
