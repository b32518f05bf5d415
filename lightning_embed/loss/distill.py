"""`loss=distill`."""

from dataclasses import dataclass
from enum import StrEnum

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_embed.errors import ConfigError
from lightning_embed.loss.mean import part_of_mean
from lightning_embed.loss.wrapper import Wrapper
from lightning_embed.registry import register
from lightning_embed.types import LossInput, LossOutput, Task


class DistillKind(StrEnum):
    """Target of the student: the teacher's distribution over a row's documents (kl), or its margins (margin_mse)."""

    kl = "kl"
    margin_mse = "margin_mse"


@register("loss", "distill")
@dataclass(frozen=True)
class Distill(Wrapper):
    """A wrapped loss plus the distance to a teacher's scores of the documents of each row.

        L = loss_weight * loss + weight * D
        kl:         D = mean over rows of KL( softmax(t / teacher_temperature) || softmax(s / temperature) )
        margin_mse: D = mean over a row's pairs of a positive and a negative, all rows, of
                        ( (s_pos - s_neg) - (t_pos - t_neg) / teacher_temperature )^2

    s are the dot products of L2-normalised embeddings of a row's query and its own documents (all positives, all
    negatives), t the teacher's scores of the same. Documents without a score are left out; kl needs two scored
    documents in a row. For rows without scores, as in a dev set, D is 0; a train set without scores is refused.
    `distillation` in the logs is D.

    Papers: kl as in Lin et al. 2020, arXiv 2010.11386; margin_mse: Hofstaetter et al. 2020, arXiv 2010.02666. Where we
    differ: kl is not multiplied by the squared temperature (set `weight`); margin_mse has dot products of unit vectors,
    whose margins stay within [-2, 2]: scale a teacher of logits down with teacher_temperature.

    Args:
        loss: the wrapped loss, or its options with its word as `name`.
        kind: kl or margin_mse.
        weight: of the distillation; in (0, inf).
        loss_weight: of the wrapped loss; in [0, inf). 0: distillation alone.
        temperature: of the student's distribution, for kl; in (0, inf), typically 0.02 to 0.05.
        teacher_temperature: divides the teacher's scores; in (0, inf), 1 for logits.

    Raises:
        ConfigError: a weight or a temperature out of range, or a wrapped loss that does not support retrieval.
    """

    kind: DistillKind = DistillKind.kl
    weight: float = 1.0
    loss_weight: float = 1.0
    temperature: float = 0.05
    teacher_temperature: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("temperature", "teacher_temperature", "weight"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"distill: {name} must be positive, got {getattr(self, name)}.")
        if not self.loss_weight >= 0:
            raise ConfigError(f"distill: loss_weight must be at least 0, got {self.loss_weight}.")
        if not self.tasks:
            raise ConfigError(
                f"distill: only retrieval rows hold a teacher's scores, and {type(self.loss).__name__} serves"
                f" {', '.join(sorted(self.inner.tasks))}. Wrap infonce, or another loss of retrieval."
            )

    @property
    def tasks(self) -> frozenset[Task]:
        """Retrieval, if the wrapped loss supports it."""
        return self.inner.tasks & {Task.retrieval}

    @property
    def needs_middle(self) -> bool:
        """As the wrapped loss; False if its weight is 0."""
        return self.inner.needs_middle and self.loss_weight > 0

    @property
    def needs_teacher(self) -> bool:
        """True."""
        return True

    def __call__(self, batch: LossInput) -> LossOutput:
        """See the class."""
        student, teacher = self._student(batch), _teacher(batch).to(batch.embeddings.final) / self.teacher_temperature
        distance = self._kl if self.kind == DistillKind.kl else self._margin_mse
        distillation = distance(student, teacher, batch)
        value, logs = self.weight * distillation, {"distillation": distillation.detach()}
        if not self.loss_weight:
            return LossOutput(value, logs)
        output = self.inner(batch)
        return LossOutput(value + self.loss_weight * output.value, {**output.logs, **logs})

    def _student(self, batch: LossInput) -> Float[Tensor, "local documents"]:
        """Similarities of the queries of this rank with their own documents."""
        embeddings, rows = batch.embeddings.final, batch.rows
        documents = torch.cat([batch.positives, batch.negatives], 1)[rows].clamp(min=0)
        return torch.einsum("qd,qcd->qc", embeddings[batch.query[rows]], embeddings[documents])

    def _kl(
        self, student: Float[Tensor, "local documents"], teacher: Float[Tensor, "rows documents"], batch: LossInput
    ) -> Float[Tensor, ""]:
        scored = ~teacher.isnan()
        here = scored[batch.rows]
        nothing = torch.finfo(student.dtype).min  # finite: rows without scores have gradients too
        log_q = (student / self.temperature).masked_fill(~here, nothing).log_softmax(1)
        log_p = teacher[batch.rows].masked_fill(~here, nothing).log_softmax(1)
        divergence = (log_p.exp() * (log_p - log_q)).where(here, 0).sum(1)
        return part_of_mean(divergence, scored.sum(1) >= 2, batch.rows)

    def _margin_mse(
        self, student: Float[Tensor, "local documents"], teacher: Float[Tensor, "rows documents"], batch: LossInput
    ) -> Float[Tensor, ""]:
        slots = batch.positives.shape[1]
        target = _margins(teacher, slots)
        errors = _margins(student, slots) - target.nan_to_num()[batch.rows]
        return part_of_mean(errors.square(), ~target.isnan(), batch.rows)


def _margins(scores: Float[Tensor, "rows documents"], slots: int) -> Float[Tensor, "rows slots hard"]:
    """Score of each positive minus score of each negative of the row."""
    return scores[:, :slots, None] - scores[:, None, slots:]


def _teacher(batch: LossInput) -> Float[Tensor, "rows documents"]:
    """The teacher's scores of the documents of each row; NaN: none."""
    parts = ((batch.positives, batch.positive_scores), (batch.negatives, batch.negative_scores))
    missing = batch.embeddings.final.new_full((), torch.nan)
    return torch.cat([missing.expand(index.shape) if score is None else score for index, score in parts], 1)
