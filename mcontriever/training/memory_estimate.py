"""What a configuration costs, before anything is built: parameters, memory per GPU by ZeRO stage, tokens, time.

Everything is arithmetic on the architecture's numbers; `mcontriever train --estimate --config FILE` prints it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from mcontriever.amounts import shown_duration, shown_size

GB = 10**9
UTILISATION = 0.4  # the share of the rate that encoder training reaches


@dataclass(frozen=True)
class Gpu:
    """The dense bf16 rate is the vendor's."""

    teraflops: float
    memory_gb: float


GPUS = {"A100 40 GB": Gpu(312, 40), "A100 80 GB": Gpu(312, 80), "H100": Gpu(989, 80), "RTX 4090": Gpu(165, 24)}
REFERENCE_GPU = "A100 80 GB"
FASTEST = ("A100 80 GB", "H100")
# Bytes kept for the backward pass, counted with autograd's saved-tensor hooks on the packed forward: for each token
# and hidden unit of a layer, for each attention score, and for each token and hidden unit of the embeddings.
LAYER_BYTES = {"bfloat16": 40, "float32": 72}
SCORE_BYTES = {"bfloat16": 4, "float32": 8}
EMBEDDING_BYTES = 12


@dataclass(frozen=True)
class Architecture:
    """The numbers of a BERT-like encoder that decide its cost."""

    vocabulary: int
    hidden: int
    layers: int
    heads: int
    intermediate: int
    positions: int
    segments: int = 1
    encoders: int = 1  # 2: one for queries, one for passages

    @classmethod
    def of(cls, config: Mapping[str, int]) -> "Architecture":
        """From the keys of a Hugging Face config.json; those that are absent have BERT's defaults."""
        return cls(
            vocabulary=config.get("vocab_size", 30522),
            hidden=config.get("hidden_size", 768),
            layers=config.get("num_hidden_layers", 12),
            heads=config.get("num_attention_heads", 12),
            intermediate=config.get("intermediate_size", 3072),
            positions=config.get("max_position_embeddings", 512),
            segments=config.get("type_vocab_size", 2),
        )

    @property
    def embedding_parameters(self) -> int:
        return self.encoders * (self.vocabulary + self.positions + self.segments + 2) * self.hidden

    @property
    def layer_parameters(self) -> int:
        """Four projections, two linear layers, two layer norms; each with its bias."""
        attention = 4 * self.hidden * (self.hidden + 1)
        feed_forward = 2 * self.hidden * self.intermediate + self.intermediate + self.hidden
        return self.encoders * self.layers * (attention + feed_forward + 4 * self.hidden)

    @property
    def parameters(self) -> int:
        return self.embedding_parameters + self.layer_parameters

    def forward_flops(self, tokens: float, length: float) -> float:
        """Two per weight and token in the layers, and the attention scores of rows of this length."""
        weights = self.layers * (4 * self.hidden**2 + 2 * self.hidden * self.intermediate)
        return 2 * weights * tokens + 4 * self.layers * self.hidden * length * tokens


KNOWN = {
    "xlm-roberta-base": Architecture(250002, 768, 12, 12, 3072, 514),
    "xlm-roberta-large": Architecture(250002, 1024, 24, 16, 4096, 514),
    "bert-base-multilingual-cased": Architecture(119547, 768, 12, 12, 3072, 512, 2),
    "bert-base-multilingual-uncased": Architecture(105879, 768, 12, 12, 3072, 512, 2),
    "bert-base-uncased": Architecture(30522, 768, 12, 12, 3072, 512, 2),
    "contriever": Architecture(30522, 768, 12, 12, 3072, 512, 2),
    "mcontriever": Architecture(119547, 768, 12, 12, 3072, 512, 2),
    "distilbert-base-multilingual-cased": Architecture(119547, 768, 6, 12, 3072, 512, 0),
}


@dataclass(frozen=True)
class Work:
    """One update of one GPU. `row_length` is the mean length of a row with its special tokens."""

    architecture: Architecture
    rows_with_gradient: int
    rows_without_gradient: int
    row_length: float
    micro_steps: int
    steps: int
    world_size: int
    queue_size: int
    momentum: bool
    precision: str
    checkpoint_layers: bool
    rows_at_once: int | None
    asam: bool = False
    frozen_parameters: int = 0

    @property
    def tokens_per_update(self) -> float:
        """Over all GPUs."""
        rows = self.rows_with_gradient + self.rows_without_gradient
        return rows * self.row_length * self.micro_steps * self.world_size

    @property
    def flops_per_update(self) -> float:
        """A backward pass costs two forwards; dropped activations are computed twice, ASAM does everything twice."""
        forwards = (4 if self.checkpoint_layers or self.rows_at_once else 3) * (2 if self.asam else 1)
        tokens = self.row_length * self.micro_steps * self.world_size
        flops = self.architecture.forward_flops
        with_gradient = forwards * flops(self.rows_with_gradient * tokens, self.row_length)
        return with_gradient + flops(self.rows_without_gradient * tokens, self.row_length)

    def seconds(self, teraflops: float) -> float:
        rate = teraflops * 1e12 * UTILISATION * self.world_size
        return self.steps * self.flops_per_update / rate

    def memory_bytes(self, stage: int) -> dict[str, float]:
        """Per GPU. With ZeRO-1 and 2 the owner of a stretch of weights keeps a second copy of it."""
        size, share = self.architecture.parameters, 1 / self.world_size
        fp32, trained = 4 * size, 4 * (size - self.frozen_parameters)
        return {
            "weights": fp32 * (share if stage == 3 else 1) + (trained * share if stage in (1, 2) else 0),
            "gradients": trained * (share if stage >= 2 else 1),
            "optimizer": 2 * trained * (share if stage >= 1 else 1),
            "momentum and queue": self._momentum_bytes() + 4 * self.queue_size * self.architecture.hidden,
            "activations": self._activation_bytes(),
            **({"ASAM": 2 * trained} if self.asam else {}),
        }

    def _momentum_bytes(self) -> float:
        """Its fp32 weights on every GPU, and their bf16 copy to compute with."""
        copy = 2 if self.precision == "bfloat16" else 0
        return (4 + copy) * self.architecture.parameters if self.momentum else 0

    def _activation_bytes(self) -> float:
        """With bf16 products, each linear layer's weights are kept in bf16 too."""
        size = self.architecture
        rows = min(self.rows_with_gradient, self.rows_at_once or self.rows_with_gradient)
        tokens = rows * self.row_length
        layer = tokens * size.hidden * LAYER_BYTES[self.precision]
        layer += tokens * self.row_length * size.heads * SCORE_BYTES[self.precision]
        casts = 2 * size.layer_parameters if self.precision == "bfloat16" else 0
        embedded = tokens * size.hidden * EMBEDDING_BYTES
        if self.checkpoint_layers:
            return layer + casts / max(size.layers, 1) + embedded + size.layers * tokens * size.hidden * 4
        return size.layers * layer + casts + embedded


def report(works: Mapping[str, Work], stage: int, checkpoints: int) -> str:
    """The estimate as text; `works` are by the names of GPUS, with the batch divided as it fits them."""
    work = works[REFERENCE_GPU]
    size = work.architecture
    lines = [
        f"parameters          {size.parameters:,} ({size.embedding_parameters / size.parameters:.0%} embeddings)",
        f"updates             {work.steps:,} on {work.world_size} GPU(s)",
        f"tokens              {work.tokens_per_update:,.0f} per update, "
        f"{work.steps * work.tokens_per_update:,.3g} in all",
        f"arithmetic          {work.flops_per_update / 1e12:,.1f} TFLOP per update, "
        f"{work.steps * work.flops_per_update / 1e18:,.3g} EFLOP in all",
        "",
        f"GB on a {REFERENCE_GPU:<12}{'ZeRO-0':>10}{'ZeRO-1':>10}{'ZeRO-2':>10}{'ZeRO-3':>10}",
    ]
    stages = [work.memory_bytes(number) for number in range(4)]
    for part in stages[0]:
        lines.append(f"  {part:<18}" + "".join(f"{memory[part] / GB:>10.2f}" for memory in stages))
    lines.append("  all together      " + "".join(f"{sum(memory.values()) / GB:>10.2f}" for memory in stages))
    lines += ["", f"with ZeRO-{stage}; time of the arithmetic alone, at {UTILISATION:.0%} of the bf16 rate:"]
    lines += [_on(name, on_gpu, stage) for name, on_gpu in works.items()]
    disk = checkpoints * _checkpoint_bytes(work)
    lines += ["", f"disk                {shown_size(disk)} for {checkpoints} checkpoints"]
    return "\n".join(lines)


def _on(name: str, work: Work, stage: int) -> str:
    """How the batch is divided on this kind of GPU, what that takes, and how long."""
    needed, gpu = sum(work.memory_bytes(stage).values()) / GB, GPUS[name]
    division = f"{work.rows_with_gradient} texts x {work.micro_steps} step(s)"
    if work.rows_at_once is not None:
        division += f", {work.rows_at_once} at a time"
    too_small = "" if needed < 0.9 * gpu.memory_gb else "  (too small)"
    duration = shown_duration(work.seconds(gpu.teraflops))
    return f"  {work.world_size} x {name:<12}{division:<36}{needed:>6.1f} GB{duration:>10}{too_small}"


def summary(work: Work, stage: int, checkpoints: int) -> str:
    """The estimate in one line, for the comments of the configurations; `work` is that of the reference GPU."""
    memory = sum(work.memory_bytes(stage).values()) / GB
    times = [f"{shown_duration(work.seconds(GPUS[name].teraflops))} on {work.world_size} x {name}" for name in FASTEST]
    return (
        f"{work.architecture.parameters:,} parameters; {work.tokens_per_update:,.0f} tokens per update, "
        f"{work.steps * work.tokens_per_update:.3g} in all; {memory:.1f} GB per GPU (ZeRO-{stage}); "
        f"at least {', '.join(times)}; {shown_size(checkpoints * _checkpoint_bytes(work))} of disk"
    )


def _checkpoint_bytes(work: Work) -> float:
    """Engine (weights, fp32 copy, two moments), whole weights, whole moments, momentum weights and queue."""
    fp32 = 4 * work.architecture.parameters
    trained = fp32 - 4 * work.frozen_parameters
    return 2 * fp32 + 5 * trained + (fp32 if work.momentum else 0) + 4 * work.queue_size * work.architecture.hidden
