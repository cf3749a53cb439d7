"""What the same processor time teaches: `mcontriever train`, sentence-transformers' trainer, the plain Contriever step.

    python benchmarks/quality/trainers_beside.py BASE TOKENS runs/beside --tasks DEV/xquad-ar-en DEV/xquad-en-en ...

BASE is an encoder, TOKENS the shards that `prepare` made with it (configs/real/run.sh makes both, and DEV). All begin
from BASE and read the same crops in the same batches, each of one language, with one thread. Ours takes `--steps` steps
of configs/real/crops.yaml; the seconds of the processor for all of it, its start included, are what the others get for
their steps alone. Sentence-transformers: MultipleNegativesRankingLoss, both its precisions where bf16 is native. The
plain step is the published one: padded, float32, a queue of all languages. What is done is not done again.
"""

import argparse
import functools
import itertools
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy, normalize

from mcontriever.assembly.pretraining_pairs import open_pairs
from mcontriever.assembly.training_config import PretrainConfig, load_train_config
from mcontriever.cli import main as mcontriever
from mcontriever.config.yaml_files import read_yaml
from mcontriever.encoder import Encoder
from mcontriever.evaluation.results import Benchmark
from mcontriever.pretraining.pairs import PairSource
from mcontriever.processor import trains_in_bf16

CONFIG = Path(__file__).parents[2] / "configs" / "real" / "crops.yaml"
LOW = "deepspeed.torch_autocast={enabled: true, dtype: bfloat16, lower_precision_safe_modules: []}"
SETTINGS: Any = read_yaml(CONFIG)
TEMPERATURE, QUEUE, MOMENTUM = (SETTINGS["objective"][key] for key in ("temperature", "queue_size", "momentum"))
ROWS, ADAM = SETTINGS["deepspeed"]["train_batch_size"], dict(SETTINGS["deepspeed"]["optimizer"]["params"])
RATE, WARM_UP = ADAM.pop("lr"), SETTINGS["deepspeed"]["scheduler"]["params"]["warmup_num_steps"]
ADAM = {key: ADAM[key] for key in ("betas", "eps", "weight_decay")}
TIMED = 6  # steps that tell how many fit into the time; the first is not counted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path)
    parser.add_argument("tokens", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--tasks", type=Path, nargs="+", required=True)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--rates", type=float, nargs="+", default=[RATE], help="of sentence-transformers' trainer")
    parser.add_argument("--temperatures", type=float, nargs="+", default=[TEMPERATURE], help="of the same")
    parser.add_argument("--skip", nargs="*", choices=["plain", "fp32"], default=[], help="others that are not run")
    given = parser.parse_args()
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    contenders: dict[str, Callable[[Path, float], dict[str, Any]]] = {}
    if "plain" not in given.skip:
        contenders["plain"] = lambda folder, seconds: plain(given, folder, seconds)
    precisions = ["bf16"] * trains_in_bf16() + ["fp32"] * (not trains_in_bf16() or "fp32" not in given.skip)
    for precision, rate, temperature in itertools.product(precisions, given.rates, given.temperatures):
        train = functools.partial(theirs, given, bf16=precision == "bf16", rate=rate, temperature=temperature)
        contenders[f"sentence-transformers-{precision}-{rate:g}-{temperature:g}"] = train
    facts = {"ours": once(given.work / "ours", lambda folder: ours(given, folder))}
    for name, train in contenders.items():
        facts[name] = once(given.work / name, lambda folder, train=train: train(folder, facts["ours"]["seconds"]))
    models = [given.base, *(given.work / name / "model" for name in facts)]
    mcontriever_ends("benchmark", "--model", *models, "--tasks", *given.tasks, "--output", given.work / "scores")
    report(given, facts)


def once(folder: Path, train: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    done = folder / "facts.json"
    if not done.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        done.write_text(json.dumps(train(folder)))
    print(folder.name, done.read_text(), flush=True)
    found: dict[str, Any] = json.loads(done.read_text())
    return found


def mcontriever_ends(*words: object) -> None:
    try:
        mcontriever([str(word) for word in words])
    except SystemExit as ended:
        if ended.code:
            raise


def settings(given: argparse.Namespace, folder: Path) -> list[str]:
    places = [f"encoder.name={given.base}", f"data.tokens={given.tokens}", f"run.output={folder}"]
    return [*places, f"run.steps={given.steps}", f"run.save_every={given.steps}", "evaluation.sets=[]"]


def ours(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """A process of its own, as one types it: DeepSpeed's process group would change how the others' trainers work."""
    changes = [*settings(given, folder), *([LOW] if trains_in_bf16() else [])]
    words = ["train", "--config", CONFIG, *(part for change in changes for part in ("--set", change))]
    subprocess.run([sys.executable, "-m", "mcontriever", *map(str, words)], check=True)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"steps": given.steps, "seconds": used.ru_utime + used.ru_stime}


def crops(given: argparse.Namespace, encoder: Encoder, folder: Path) -> PairSource:
    """The pairs that `mcontriever train` would make."""
    config = load_train_config(CONFIG, settings(given, folder))
    assert isinstance(config, PretrainConfig)
    return open_pairs(config.data, None, encoder.tokenizer, folder, seed=config.run.seed)[0]


def theirs(
    given: argparse.Namespace, folder: Path, seconds: float, bf16: bool, rate: float, temperature: float
) -> dict[str, Any]:
    """Crops as text, in our order; AdamW, linear warm-up and decay, gradients clipped at 1, as their trainer does."""
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer

    encoder = Encoder.load(given.base)
    exported = encoder.save(folder / "start")
    pairs = crops(given, encoder, folder).draw(np.arange(3 * given.steps * ROWS))
    columns = {"anchor": pairs.queries.to_lists(), "positive": pairs.keys.to_lists()}
    data = Dataset.from_dict({name: encoder.tokenizer.batch_decode(rows) for name, rows in columns.items()})

    def run(steps: int) -> float:
        model = SentenceTransformer(str(exported), device="cpu")
        used = their_run(model, data, folder, steps, bf16, rate, temperature)
        model.save(str(folder / "model"))
        return used

    steps = int(seconds / (run(TIMED) / TIMED))
    return {"steps": steps, "seconds": run(steps)}


def their_run(model: Any, data: Any, folder: Path, steps: int, bf16: bool, rate: float, temperature: float) -> float:
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.losses import MultipleNegativesRankingLoss
    from torch.utils.data import SequentialSampler

    class InOrder(SentenceTransformerTrainer):
        def get_batch_sampler(self, dataset: Any, batch_size: int, *_: Any, **__: Any) -> Any:
            return torch.utils.data.BatchSampler(SequentialSampler(dataset), batch_size, drop_last=True)

    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(folder / "run"),
        max_steps=steps,
        per_device_train_batch_size=ROWS,
        learning_rate=rate,
        warmup_steps=min(WARM_UP, steps),
        weight_decay=ADAM["weight_decay"],
        adam_beta2=ADAM["betas"][1],
        adam_epsilon=ADAM["eps"],
        bf16=bf16,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
    )
    loss = MultipleNegativesRankingLoss(model, scale=1 / temperature)
    trainer = InOrder(model=model, args=arguments, train_dataset=data, loss=loss)
    began = time.process_time()
    trainer.train()
    return time.process_time() - began


def plain(given: argparse.Namespace, folder: Path, seconds: float) -> dict[str, Any]:
    timed = PlainRun(given, folder, TIMED)
    steps = int(seconds / (timed.run() / TIMED))
    run = PlainRun(given, folder, steps)
    used = run.run()
    run.encoder.save(folder / "model")
    return {"steps": steps, "seconds": used}


class PlainRun:
    """The step as the published code takes it, with cosines, as in CONFIG."""

    def __init__(self, given: argparse.Namespace, folder: Path, steps: int) -> None:
        torch.manual_seed(0)
        self.encoder, self.slow = Encoder.load(given.base), Encoder.load(given.base).backbone.train()
        self.model, self.steps = self.encoder.backbone.train(), steps
        self.pairs = crops(given, self.encoder, folder)
        self.queue_HK = normalize(torch.randn(self.model.config.hidden_size, QUEUE), dim=0)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=RATE, **ADAM)
        lead = min(WARM_UP, steps)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: min((step + 1) / lead, (steps - step) / max(steps - lead, 1))
        )

    def run(self) -> float:
        began = time.process_time()
        for step in range(self.steps):
            self.step(step * ROWS)
        return time.process_time() - began

    def step(self, seen: int) -> None:
        pairs = self.pairs.draw(np.arange(seen, seen + ROWS))
        queries = self.embed(self.model, pairs.queries.to_lists())
        with torch.no_grad():
            for slow, fast in zip(self.slow.parameters(), self.model.parameters(), strict=True):
                slow.data = slow.data * MOMENTUM + fast.data * (1 - MOMENTUM)
            keys = self.embed(self.slow, pairs.keys.to_lists())
        scores = torch.cat([(queries * keys).sum(1, keepdim=True), queries @ self.queue_HK.clone()], dim=1)
        cross_entropy(scores / TEMPERATURE, torch.zeros(len(scores), dtype=torch.long)).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()
        place = seen % QUEUE
        self.queue_HK[:, place : place + ROWS] = keys.T[:, : QUEUE - place]

    def embed(self, model: Any, rows: list[list[int]]) -> torch.Tensor:
        special = self.encoder.special
        texts = [torch.tensor([special.begin_id, *row, special.end_id]) for row in rows]
        ids = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True, padding_value=special.pad_id)
        mask = ids != special.pad_id
        hidden = model(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        return normalize(hidden.masked_fill(~mask[..., None], 0.0).sum(1) / mask.sum(1)[..., None], dim=1)


def report(given: argparse.Namespace, facts: dict[str, Any]) -> None:
    """Each contender's scores, and its mean gain over BASE across languages (tasks named X-Y, X not Y)."""
    scores = Benchmark.load(given.work / "scores")
    tasks = [task.name for task in given.tasks]
    across = [name for name in tasks if len(set(name.split("-")[-2:])) == 2]

    def of(model: Path) -> dict[str, float]:
        path = str(model.resolve())  # as `benchmark` names it: a label is the end of the path
        label = max((label for label in scores.scores if path.endswith(label)), key=len)
        return {row.task: value for row, value in scores.scores[label].items() if row.metric == "ndcg_at_10"}

    def gain(found: dict[str, float]) -> float:
        return float(np.mean([found[name] - start[name] for name in across]))

    start = of(given.base)
    rows = {name: facts[name] | {"ndcg@10": of(given.work / name / "model")} for name in facts}
    for row in rows.values():
        row["mean gain across languages"] = gain(row["ndcg@10"])
    best = max(row["mean gain across languages"] for name, row in rows.items() if name != "ours")
    found = {
        "base": start,
        "rows": rows,
        "ours against the best other": rows["ours"]["mean gain across languages"] / best,
    }
    (given.work / "report.json").write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
