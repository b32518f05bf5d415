"""The contract of a loss."""

from abc import ABC, abstractmethod

from lightning_embed.types import LossInput, LossOutput, Task


class Loss(ABC):
    """A pure function of the embeddings of all ranks; the mean of its value over ranks is the loss of the global batch.

    A loss is a frozen dataclass. `tasks` is a class variable of it, `cross_device` a field; wrappers answer for the
    loss that they wrap.
    """

    @property
    @abstractmethod
    def tasks(self) -> frozenset[Task]:
        """The tasks that it can train."""

    @property
    @abstractmethod
    def cross_device(self) -> bool:
        """Whether it sees the rows of all ranks. False: every rank is a batch of its own, and the loss is their mean."""

    @property
    def needs_middle(self) -> bool:
        """Whether it also looks at embeddings from the middle layer."""
        return False

    @property
    def needs_teacher(self) -> bool:
        """Whether the rows must hold a teacher's scores of their documents."""
        return False

    @property
    def needs_negatives(self) -> bool:
        """Whether it compares a row with nothing but its own hard negatives."""
        return False

    @abstractmethod
    def __call__(self, batch: LossInput) -> LossOutput:
        """Compute the loss of the rows `batch.rows`, or of all rows where it cannot be split by rows."""
