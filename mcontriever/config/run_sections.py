"""The sections `evaluation` and `run`: how long, how often, where to, and what is the best."""

from mcontriever.config.sections import AboveZero, Count, Section


class EvaluationSection(Section):
    """Dev sets in BEIR's layout, scored before the first step, every `every` steps, and at the end."""

    sets: list[str] = []
    split: str = "test"
    every: Count = 1000
    metric: str = "mean/ndcg@10"  # SET/METRIC that says what is best; metrics: ndcg@10, mrr@100, recall@100
    patience: Count | None = None  # stop after so many evaluations without a new best


class AsamSection(Section):
    """Adaptive sharpness-aware minimisation: two forwards and backwards a step; ZeRO stages 0 and 1.

    The defaults are those of Contriever's options; ASAM's own authors take a rho of 0.5 to 1 (for images).
    """

    rho: AboveZero = 0.05
    eta: AboveZero = 0.01


class RunSection(Section):
    output: str
    steps: Count
    stop_at: Count | None = None  # stop after this step; the same command resumes the run
    seed: int = 0
    log_every: Count = 10
    save_every: Count = 1000
    keep_last: Count = 2
    tensorboard: bool = False
    wandb: str | None = None  # a project's name
    asam: AsamSection | None = None
