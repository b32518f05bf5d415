"""`loss=distill_embeddings`."""

from dataclasses import dataclass
from enum import StrEnum

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lightning_embed.errors import ConfigError
from lightning_embed.loss.mean import part_of_mean
from lightning_embed.loss.wrapper import Wrapper
from lightning_embed.registry import register
from lightning_embed.types import LossInput, LossOutput, Task


class EmbeddingDistance(StrEnum):
    """What of the teacher the student imitates: each embedding (cosine, mse, l2), or the similarities of a batch (kl)."""

    cosine = "cosine"
    mse = "mse"
    l2 = "l2"
    kl = "kl"


@register("loss", "distill_embeddings")
@dataclass(frozen=True)
class DistillEmbeddings(Wrapper):
    """A wrapped loss plus the distance to a teacher's embeddings; alone, it needs no labels, only texts.

        L = loss_weight * loss + weight * D
        cosine:  D = mean over texts of  1 - s . t
        mse:     D = mean over texts of  |s - t|^2 / dim          (= 2 (1 - s . t) / dim: cosine at another scale)
        l2:      D = mean over texts of  |s - t|
        kl:      D = mean over queries q of KL( softmax(t_q . t_d / teacher_temperature) || softmax(s_q . s_d / temperature) ),
                     d over the documents of the batch, on all ranks, whose text is not that of q

    s are the L2-normalised embeddings of the student and t those of the teacher, which the run computes once before the
    training (the group `teacher`), with the teacher's own prompts. The texts are the queries, positives and negatives of
    all rows, or both texts of a pair; a text that rows share counts in each. kl compares similarities, so that the
    teacher may have any number of dimensions; the others need as many as the student has: `teacher.dim` reduces them.
    `embedding_distillation` in the logs is D. kl has the matrix of a rank's queries and all documents in memory.

    Papers: l2 and the matching of queries and documents: EmbedDistill (Kim et al. 2023, arXiv 2301.12005); cosine, before
    and beside task losses: jina-embeddings-v5-text (Akram et al. 2026, arXiv 2602.15547). cosine, mse and l2 equal
    sentence-transformers' EmbedDistillLoss. Where we differ: both papers learn a projection between different dimensions;
    here the teacher is reduced to the student's by PCA, as in sentence-transformers' example of model distillation. kl
    over all documents of a batch is our reading of "similarities"; it is not multiplied by the squared temperature.

    Args:
        loss: the wrapped loss, or its options with its word as `name`.
        kind: cosine, mse, l2 or kl.
        weight: of the distillation; in (0, inf).
        loss_weight: of the wrapped loss; in [0, inf). 0: distillation alone, for any task.
        temperature: of the student's similarities, for kl; in (0, inf), typically 0.02 to 0.05.
        teacher_temperature: of the teacher's similarities, for kl; in (0, inf), typically the same.

    Raises:
        ConfigError: a weight or a temperature out of range; when called, a teacher of other dimensions, or none where
            there is no other loss.
    """

    kind: EmbeddingDistance = EmbeddingDistance.cosine
    weight: float = 1.0
    loss_weight: float = 1.0
    temperature: float = 0.05
    teacher_temperature: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("weight", "temperature", "teacher_temperature"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"distill_embeddings: {name} must be positive, got {getattr(self, name)}.")
        if not self.loss_weight >= 0:
            raise ConfigError(f"distill_embeddings: loss_weight must be at least 0, got {self.loss_weight}.")

    @property
    def tasks(self) -> frozenset[Task]:
        """As the wrapped loss; all, if its weight is 0."""
        return self.inner.tasks if self.loss_weight else frozenset(Task)

    @property
    def needs_middle(self) -> bool:
        """As the wrapped loss; False if its weight is 0."""
        return self.inner.needs_middle and self.loss_weight > 0

    @property
    def needs_teacher(self) -> bool:
        """As the wrapped loss; False if its weight is 0."""
        return self.inner.needs_teacher and self.loss_weight > 0

    @property
    def needs_teacher_embeddings(self) -> bool:
        """True."""
        return True

    @property
    def needs_pairs(self) -> bool:
        """As the wrapped loss; False if its weight is 0."""
        return self.inner.needs_pairs and self.loss_weight > 0

    def needs_negatives(self, task: Task) -> bool:
        """As the wrapped loss; False if its weight is 0."""
        return self.inner.needs_negatives(task) and self.loss_weight > 0

    def __call__(self, batch: LossInput) -> LossOutput:
        """See the class."""
        distillation = self._distance(batch)
        value, logs = self.weight * distillation, {"embedding_distillation": distillation.detach()}
        if not self.loss_weight:
            return LossOutput(value, logs)
        output = self.inner(batch)
        return LossOutput(value + self.loss_weight * output.value, {**output.logs, **logs})

    def _distance(self, batch: LossInput) -> Float[Tensor, ""]:
        student = batch.embeddings.final
        if batch.teacher is None:  # of a batch that no training made, such as that of a merge's probe
            if self.loss_weight:
                return student.new_zeros(())
            raise ConfigError(
                "distill_embeddings: expected the teacher's embeddings of the texts, got none, and no loss beside them. "
                "Set loss_weight above 0, or use a merge without a probe."
            )
        teacher = batch.teacher.to(student)
        if self.kind == EmbeddingDistance.kl:
            return self._kl(batch, student, teacher)
        if student.shape[1] != teacher.shape[1]:
            raise ConfigError(
                f"distill_embeddings: kind={self.kind} compares embeddings of one length, and the student has "
                f"{student.shape[1]} dimensions, the teacher {teacher.shape[1]}. Set teacher.dim={student.shape[1]} where "
                "the teacher has more, or kind=kl, which compares similarities."
            )
        texts = torch.cat([batch.query[:, None], batch.positives, batch.negatives], 1)
        here = texts[batch.rows].clamp(min=0)
        return part_of_mean(self._of_texts(student[here], teacher[here]), texts >= 0, batch.rows)

    def _of_texts(
        self, student: Float[Tensor, "local texts dim"], teacher: Float[Tensor, "local texts dim"]
    ) -> Float[Tensor, "local texts"]:
        if self.kind == EmbeddingDistance.cosine:
            return 1 - (student * teacher).sum(-1)
        squared = (student - teacher).square()
        if self.kind == EmbeddingDistance.mse:
            return squared.mean(-1)
        return (squared.sum(-1) + torch.finfo(squared.dtype).tiny).sqrt()  # a gradient also where they are equal

    def _kl(
        self, batch: LossInput, student: Float[Tensor, "texts dim"], teacher: Float[Tensor, "texts teacher_dim"]
    ) -> Float[Tensor, ""]:
        documents = torch.cat([batch.positives, batch.negatives], 1).flatten()
        others = self._others(batch, documents)
        here, index = batch.query[batch.rows], documents.clamp(min=0)
        out, nothing = (
            ~others[batch.rows],
            torch.finfo(student.dtype).min,
        )  # finite: else a row without documents is NaN
        log_q = (student[here] @ student[index].T / self.temperature).masked_fill(out, nothing).log_softmax(1)
        log_p = (teacher[here] @ teacher[index].T / self.teacher_temperature).masked_fill(out, nothing).log_softmax(1)
        divergence = (log_p.exp() * (log_p - log_q)).masked_fill(out, 0).sum(1)
        return part_of_mean(divergence, others.sum(1) >= 2, batch.rows)

    @staticmethod
    def _others(batch: LossInput, documents: Int[Tensor, " documents"]) -> Tensor:
        """(rows, documents) mask of the documents that exist and whose text is not that of the query."""
        own = batch.hashes[batch.query][:, None] == batch.hashes[documents.clamp(min=0)]
        return ~own & (documents >= 0)
