"""The interface of a loss."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Bool
from torch import Tensor

from lightning_embed.errors import ConfigError
from lightning_embed.types import LossInput, LossOutput, Task


@dataclass(frozen=True)
class Learned:
    """A number of a loss that is trained with the encoder, without weight decay.

    Args:
        start: first value.
        low: least value; after every step the number is clamped.
        high: greatest value.
        lr: its learning rate, which follows the schedule of the encoder's.
    """

    start: float
    low: float
    high: float
    lr: float


class Loss(ABC):
    """A pure function of the embeddings of all ranks; the mean of its value over ranks is the loss of the global batch.

    A loss is a frozen dataclass. `tasks` is a class variable, `cross_device` a field; a wrapper takes both from the
    wrapped loss.
    """

    @property
    @abstractmethod
    def tasks(self) -> frozenset[Task]:
        """The tasks that the loss can train."""

    @property
    @abstractmethod
    def cross_device(self) -> bool:
        """Whether the loss uses the rows of all ranks. False: each rank is a separate batch; the loss is their mean."""

    @property
    def needs_middle(self) -> bool:
        """Whether the loss uses embeddings of the middle layer."""
        return False

    @property
    def needs_teacher(self) -> bool:
        """Whether the rows must hold a teacher's scores of their documents."""
        return False

    @property
    def needs_teacher_embeddings(self) -> bool:
        """Whether the batch must hold a teacher's embeddings of its texts (the group `teacher`)."""
        return False

    @property
    def needs_pairs(self) -> bool:
        """Whether it learns from which texts belong together, or how much; False: from each text alone."""
        return True

    def needs_negatives(self, task: Task) -> bool:  # noqa: ARG002
        """Whether a row of this task is compared with its own hard negatives only."""
        return False

    @property
    def learned(self) -> Mapping[str, Learned]:
        """The numbers that are trained with the encoder, by name: none."""
        return {}

    @property
    def signal(self) -> "Loss":
        """The loss by whose gradient a row teaches: without terms that move all texts, whatever stands in their rows."""
        return self

    @abstractmethod
    def __call__(self, batch: LossInput) -> LossOutput:
        """Compute the loss of the rows `batch.rows`, or of all rows where it cannot be split by rows."""


class Contrastive(Loss):
    """A loss of queries and documents with optional in-batch negatives."""

    temperature: float
    in_batch: bool
    min_score: float

    @property
    def tasks(self) -> frozenset[Task]:
        """With in-batch negatives only retrieval and STS: other rows of a labelled dataset may have the same label."""
        return frozenset({Task.retrieval, Task.sts} if self.in_batch else Task)

    def needs_negatives(self, task: Task) -> bool:  # noqa: ARG002
        """True without in-batch negatives."""
        return not self.in_batch

    def positives(self, batch: LossInput) -> Bool[Tensor, "rows slots"]:
        """Mask of the slots that hold a positive; a pair with a score (STS) is one from `min_score` on."""
        exists = batch.positives >= 0
        return exists if batch.score is None else exists & (batch.score >= self.min_score)[:, None]


def check_temperature(word: str, temperature: float) -> None:
    """Refuse a temperature that is not positive.

    Raises:
        ConfigError: naming the loss.
    """
    if not temperature > 0:
        raise ConfigError(f"{word}: temperature must be positive, got {temperature}. Usual: 0.02 to 0.05.")


def check_score(word: str, min_score: float) -> None:
    """Refuse a min_score outside [0, 1].

    Raises:
        ConfigError: naming the loss.
    """
    if not 0 <= min_score <= 1:
        raise ConfigError(f"{word}: min_score must be in [0, 1], got {min_score}.")
