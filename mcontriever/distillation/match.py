"""The loss between a student's embeddings and a teacher's vectors of the same texts.

    cosine   1 - cos(student(x), teacher(x)), over all texts
    scores   KL( softmax(teacher(x) . K / t) || softmax(student(x) . K / t) ), over the teacher's keys K of the batch

The first moves every text to the teacher's vector. The second says which differences matter: those between a text and
its near neighbours. Without `questions` each text is compared with the keys of all texts, its own among them; with
them, the first rows are questions, and they are compared with the other rows' keys only.

The keys are the teacher's, so they carry no gradient, and ranks only exchange keys.

Shapes: N texts of this rank, of which the first Q are compared with K keys of all ranks, H the teacher's dimensions.
"""

from dataclasses import dataclass

import torch
from torch.nn.functional import normalize

from mcontriever import ranks

Metrics = dict[str, float | torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class Match:
    """`unit` says that the teacher scores by cosine, so that the student is compared in length one too."""

    cosine_weight: float
    scores_weight: float
    temperature: float
    unit: bool

    def __call__(
        self, student_NH: torch.Tensor, teacher_NH: torch.Tensor, questions: int = 0
    ) -> tuple[torch.Tensor, Metrics]:
        with torch.autocast(student_NH.device.type, enabled=False):
            student_NH, teacher_NH = student_NH.float(), teacher_NH.float()
            unit_student_NH, unit_teacher_NH = normalize(student_NH, dim=-1), normalize(teacher_NH, dim=-1)
            if self.unit:
                student_NH, teacher_NH = unit_student_NH, unit_teacher_NH
            asked = slice(0, questions or len(student_NH))
            keys_KH = ranks.gather(teacher_NH[questions:])
            scores_QK, wanted_QK = student_NH[asked] @ keys_KH.T, teacher_NH[asked] @ keys_KH.T
            cosine = (unit_student_NH * unit_teacher_NH).sum(1).mean()
            divergence = divergence_of(scores_QK / self.temperature, wanted_QK / self.temperature)
            loss = self._sum(cosine, divergence)
            metrics: Metrics = {
                "blind_loss": self._blind_loss(unit_teacher_NH, keys_KH, wanted_QK),
                "teacher_cosine": cosine.detach(),
                "teacher_divergence": divergence.detach(),
                **_found(scores_QK.detach(), len(teacher_NH) - questions),
            }
        return loss, metrics

    def _sum(self, cosine: torch.Tensor, divergence: torch.Tensor) -> torch.Tensor:
        return self.cosine_weight * (1 - cosine) + self.scores_weight * divergence

    def _blind_loss(
        self, unit_teacher_NH: torch.Tensor, keys_KH: torch.Tensor, wanted_QK: torch.Tensor
    ) -> torch.Tensor:
        """The loss of a student for which all texts are the mean text."""
        mean_H = keys_KH.mean(0)
        unit_mean_H = normalize(mean_H, dim=-1)
        scores_1K = ((unit_mean_H if self.unit else mean_H) @ keys_KH.T)[None]
        divergence = divergence_of(scores_1K / self.temperature, wanted_QK / self.temperature)
        return self._sum((unit_teacher_NH @ unit_mean_H).mean(), divergence)


def divergence_of(logits_QK: torch.Tensor, wanted_logits_QK: torch.Tensor) -> torch.Tensor:
    """The mean over rows of KL(softmax(wanted) || softmax(logits))."""
    log_wanted_QK = wanted_logits_QK.log_softmax(dim=1)
    return (log_wanted_QK.exp() * (log_wanted_QK - logits_QK.log_softmax(dim=1))).sum(1).mean()


def _found(scores_QK: torch.Tensor, keys_of_rank: int) -> Metrics:
    """Whether a text is nearer to its own key than to any other; a question's own key is its first passage's."""
    rows = len(scores_QK)
    own_Q = ranks.rank() * keys_of_rank + torch.arange(rows, device=scores_QK.device) * (keys_of_rank // rows)
    own_score_Q1 = scores_QK.gather(1, own_Q[:, None])
    others = max(scores_QK.shape[1] - 1, 1)
    return {
        "accuracy": (scores_QK <= own_score_Q1).all(1).float().mean(),
        "chance": 1 / scores_QK.shape[1],
        "queries": float(rows),
        "positive_score": own_score_Q1.mean(),
        "negative_score": (scores_QK.sum(1) - own_score_Q1[:, 0]).mean() / others,
    }
