"""Training as a user sees it, in one process: runs, stops, resumes. See also test_train_ranks.py."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from mcontriever.encoder import Encoder
from mcontriever.errors import ConfigError
from mcontriever.training.checkpoints import STATE, checkpoints_of, read_state
from mcontriever.training.exported_model import copy_model
from mcontriever.training.metrics_log import SCORES, read_log
from tests.conftest import REPOSITORY, RunCli
from tests.training.tiny_runs import AUTOCAST, logged, run_tiny, tiny_values, write_config

# DeepSpeed's own calls into torch
pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.distributed.*` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:`torch.jit.*` is deprecated:DeprecationWarning"),
]

ATLAS = str(REPOSITORY / "mcontriever" / "atlas" / "evaluation")

IN_BATCH = {"kind": "inbatch", "temperature": {"value": 0.1, "learned": True}, "rows_per_sub_batch": 3}

RELEVANCE = {"kind": "relevance", "temperature": {"value": 0.1, "start": 1.0, "warmup_updates": 5}, "queue_size": 64}


@pytest.fixture
def values(tmp_path: Path, tiny_tokens_dir: Path, tiny_tokenizer_dir: Path) -> dict[str, Any]:
    return tiny_values(tmp_path / "run", tiny_tokens_dir, tiny_tokenizer_dir)


@pytest.mark.parametrize("objective", ["moco", "inbatch", "relevance"])
def test_a_run_in_pieces_equals_the_straight_run_bit_for_bit(
    values: dict[str, Any], tmp_path: Path, objective: str
) -> None:
    values["objective"] = {"moco": values["objective"], "inbatch": IN_BATCH, "relevance": RELEVANCE}[objective]
    if objective == "relevance":
        values["data"]["view"]["keys_per_query"] = 2
        values["deepspeed"]["torch_autocast"] = AUTOCAST
    straight = run_tiny(values, f"run.output={tmp_path / 'straight'}")
    run_tiny(values, "run.steps=4")
    pieces = run_tiny(values)
    assert [line["step"] for line in logged(straight)] == [3, 6, 7]
    # a run that was told to end at 4 logs there; step 6 must still be the mean over 4, 5 and 6
    assert [line for line in logged(pieces) if line["step"] in (3, 7)] == [
        line for line in logged(straight) if line["step"] in (3, 7)
    ]
    assert_same_end(straight, pieces)


def assert_same_end(*runs: Path) -> None:
    for name in ("model/model.safetensors", "optimizer.safetensors", "objective.safetensors"):
        ends = [load_file(checkpoints_of(folder)[-1] / name) for folder in runs]
        assert ends[0].keys() == ends[1].keys()
        assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0]), name


def test_frozen_weights_stay_and_the_rest_learns(
    values: dict[str, Any], tmp_path: Path, tiny_encoder_dir: Path
) -> None:
    values["encoder"] = {"name": str(tiny_encoder_dir), "frozen_embeddings": True}
    values["deepspeed"]["zero_optimization"] = {"stage": 0}
    straight = run_tiny(values, f"run.output={tmp_path / 'straight'}")
    run_tiny(values, "run.stop_at=3")
    assert_same_end(straight, run_tiny(values))
    ends = [load_file(folder / "model.safetensors") for folder in (tiny_encoder_dir, straight / "model")]
    same = {name for name in ends[0] if torch.equal(ends[0][name], ends[1][name])}
    assert same == {"embeddings.word_embeddings.weight"}
    optimizer = load_file(checkpoints_of(straight)[-1] / "optimizer.safetensors")
    assert not [name for name in optimizer if "word_embeddings" in name]


def test_another_zero_stage_continues_from_the_portable_state(values: dict[str, Any], tmp_path: Path) -> None:
    straight = run_tiny(values, f"run.output={tmp_path / 'straight'}", "run.steps=6")
    run_tiny(values, "run.steps=3", "deepspeed.zero_optimization.stage=0")
    for stage, steps in ((3, 4), (2, 5), (0, 6)):
        run_tiny(values, f"run.steps={steps}", f"deepspeed.zero_optimization.stage={stage}")
    assert [line["loss"] for line in logged(tmp_path / "run")][-1] == pytest.approx(
        3 * logged(straight)[1]["loss"] - sum(line["loss"] for line in logged(tmp_path / "run")[1:3]), rel=1e-5
    )
    ends = [
        load_file(checkpoints_of(folder)[-1] / "model/model.safetensors") for folder in (straight, tmp_path / "run")
    ]
    for name in ends[0]:
        torch.testing.assert_close(ends[0][name], ends[1][name], rtol=1e-4, atol=1e-5)


def test_a_batch_may_be_divided_in_another_way_but_not_changed(values: dict[str, Any], tmp_path: Path) -> None:
    """Without dropout, which is drawn for each micro step, the losses differ by rounding alone."""
    values["encoder"]["dropout"] = 0.0
    straight = run_tiny(values, f"run.output={tmp_path / 'straight'}", "run.log_every=1")
    run_tiny(values, "run.steps=3", "run.log_every=1")
    changed = ["deepspeed.train_batch_size=16", "deepspeed.train_micro_batch_size_per_gpu=4"]
    with pytest.raises(ConfigError, match=r"has 8 samples in an update, on 1 process.*16(.|\n)*train_batch_size to 8"):
        run_tiny(values, *changed)
    pieces = run_tiny(values, "deepspeed.train_micro_batch_size_per_gpu=null", "run.log_every=1")
    for one, other in zip(logged(straight), logged(pieces), strict=True):
        assert one["samples"] == other["samples"]
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)


def test_a_finished_run_says_so_and_its_model_opens_everywhere(
    values: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from sentence_transformers import SentenceTransformer

    values["evaluation"] = {"sets": [ATLAS], "every": 2, "metric": "evaluation/recall@100"}
    folder = run_tiny(values, "run.keep_last=1", "run.tensorboard=true")
    before = sorted(path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    run_tiny(values, "run.keep_last=1", "run.tensorboard=true")
    after = sorted(path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    assert len(before) == len(after)

    best = read_state(checkpoints_of(folder)[-1])["best_step"]
    assert {path.name for path in checkpoints_of(folder)} == {f"step-{best:08}", "step-00000007"}
    assert [line["step"] for line in read_log(folder / SCORES)] == [0, 2, 4, 6, 7]
    texts = ["Which river is the longest?", "Mto mrefu zaidi ni upi?"]
    ours = Encoder.load(folder / "model").embed_queries(texts)
    theirs = SentenceTransformer(str(folder / "model"), device="cpu").encode(texts)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    card = (folder / "model" / "README.md").read_text()
    for part in (
        "7 steps on 56 samples",
        "cosine similarity",
        "| 7 |",
        "| evaluation | recall@100 |",
        "queue_size: 20",
    ):
        assert part in card, part


def test_best_is_kept_and_patience_ends_a_run(values: dict[str, Any]) -> None:
    values["evaluation"] = {"sets": [ATLAS], "every": 1, "patience": 2}
    values["deepspeed"]["optimizer"]["params"]["lr"] = 1e-12  # nothing is learned, so nothing gets better
    values["deepspeed"].pop("scheduler")
    folder = run_tiny(values, "run.steps=40", "run.keep_last=1")
    facts = json.loads((folder / "finished.json").read_text())
    assert facts["stopped_early"]
    assert facts["step"] < 40
    assert (folder / "best" / "modules.json").exists()
    assert f"step-{facts['best_step']:08}" in {path.name for path in checkpoints_of(folder)}
    run_tiny(values, "run.steps=50", "run.keep_last=1")
    assert json.loads((folder / "finished.json").read_text()) == facts


def test_the_momentum_encoder_moves_under_bf16(values: dict[str, Any], tmp_path: Path) -> None:
    values["deepspeed"]["torch_autocast"] = AUTOCAST
    values["objective"]["momentum"] = 0.999
    folder = run_tiny(values, "run.steps=6")
    first, last = checkpoints_of(folder)[-2:]
    slow = [load_file(path / "objective.safetensors") for path in (first, last)]
    fast = load_file(last / "model/model.safetensors")
    name = "encoder.layer.1.output.dense.weight"
    moved = slow[1][f"momentum.backbone.{name}"] - slow[0][f"momentum.backbone.{name}"]
    ahead = fast[name] - slow[0][f"momentum.backbone.{name}"]
    assert moved.dtype == torch.float32
    assert (moved != 0).float().mean() > 0.99
    assert 0 < moved.abs().mean() / ahead.abs().mean() < 0.01


def test_a_weighted_bag_in_pieces_equals_the_straight_run_bit_for_bit(values: dict[str, Any], tmp_path: Path) -> None:
    """From random weights, and then from what that run exports, whose token weights are folded in."""
    bag = {"hidden_size": 16, "num_hidden_layers": 0, "token_weights": True, "hidden_dropout_prob": 0.0}
    values["encoder"]["architecture"] = bag
    for start in ("random", "export"):
        folder = tmp_path / start
        straight = run_tiny(values, f"run.output={folder / 'straight'}", "run.log_every=1")
        run_tiny(values, f"run.output={folder / 'pieces'}", "run.steps=4", "run.log_every=1")
        pieces = run_tiny(values, f"run.output={folder / 'pieces'}", "run.log_every=1")
        assert logged(pieces) == logged(straight)
        assert_same_end(straight, pieces)
        assert "weight/encoder.token_weights.weight" in load_file(checkpoints_of(pieces)[-1] / "optimizer.safetensors")
        values["encoder"] = {"name": str(copy_model(checkpoints_of(pieces)[-1], tmp_path / "model", weights="float8"))}


def test_a_checkpoint_from_before_a_setting_was_known_continues(values: dict[str, Any]) -> None:
    checkpoint = checkpoints_of(run_tiny(values, "run.steps=2"))[-1]
    state = json.loads((checkpoint / STATE).read_text())
    assert state["encoder"].pop("dropout") is None
    (checkpoint / STATE).write_text(json.dumps(state))
    assert read_state(checkpoints_of(run_tiny(values, "run.steps=3"))[-1])["step"] == 3


def test_other_kinds_of_pairs(values: dict[str, Any], tmp_path: Path) -> None:
    """Translations as columns, words swapped by a dictionary, noise: all of it in one run, and after a resume."""
    for code, water in (("sw", "maji"), ("fr", "eau")):
        lines = [json.dumps({"en": f"water number {n}", code: f"{water} {n}"}) for n in range(40)]
        (tmp_path / f"en-{code}.jsonl").write_text("\n".join(lines))
    dictionary = tmp_path / "en-sw.tsv"
    dictionary.write_text("water\tmaji\t3\nthe\tya\t2\nand\tna\t5\n")
    columns = {
        "paths": [str(tmp_path / "en-{language}.jsonl")],
        "columns": ["en", "{language}"],
        "languages": ["en", "{language}"],
        "each_language": ["sw", "fr"],
        "share": 0.3,
        "code_switch": True,
    }
    values["data"] |= {
        "column_pairs": [columns],
        "code_switch": {"dictionaries": {"sw": str(dictionary)}, "probability": [0.2, 0.9], "pairs_share": 0.2},
        "augmentation": {"delete": 0.1, "replace": 0.05, "mask": 0.05, "shuffle": 0.05},
    }
    straight = run_tiny(values, f"run.output={tmp_path / 'straight'}", "run.log_every=1")
    run_tiny(values, "run.log_every=1", "run.steps=3")
    assert logged(run_tiny(values, "run.log_every=1")) == logged(straight)


def test_the_command_line_prints_the_configuration_and_the_estimate(
    values: dict[str, Any], tmp_path: Path, cli: RunCli
) -> None:
    config = write_config(tmp_path / "config.yaml", values)
    shown = cli("train", "--config", config, "--set", "run.steps=11", "--print-config")
    assert "steps: 11" in shown.stdout
    assert "final_momentum: null" in shown.stdout
    cost = cli("train", "--config", config, "--estimate", "--gpus", 2)
    assert "updates             7 on 2 GPU(s)" in cost.stdout, cost.stderr
    wrong = cli("train", "--config", config, "--set", "run.stepps=1")
    assert (wrong.returncode, "did you mean run.steps?" in wrong.stderr) == (2, True)
    assert not (tmp_path / "run").exists()


def test_deepspeeds_own_options_name_its_file_and_our_checks_stay(
    values: dict[str, Any], tmp_path: Path, run_cli: RunCli
) -> None:
    """`deepspeed mcontriever/train.py ... --deepspeed --deepspeed_config FILE`, as its launcher starts a process."""
    config = write_config(tmp_path / "config.yaml", values)
    words = ["train", "--local_rank=0", "--config", config, "--deepspeed", "--deepspeed_config", tmp_path / "ds.json"]
    block = {**values["deepspeed"], "gradient_clipping": 0.25}
    (tmp_path / "ds.json").write_text(json.dumps(block))
    done = run_cli(*words)
    assert done.returncode == 0, done.stderr
    used = yaml.safe_load((checkpoints_of(tmp_path / "run")[-1] / "model" / "training.yaml").read_text())
    assert used["deepspeed"] == block
    for change, message in (
        ({"fp16": {"enabled": True}}, "fp16 is set"),
        ({"train_micro_batchsize": 4}, "did you mean deepspeed.train_micro_batch_size_per_gpu?"),
    ):
        (tmp_path / "ds.json").write_text(json.dumps(block | change))
        wrong = run_cli(*words)
        assert (wrong.returncode, message in wrong.stderr) == (2, True), wrong.stderr
