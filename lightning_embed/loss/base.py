"""The contract of a loss."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from lightning_embed.types import LossInput, LossOutput, Task


@dataclass(frozen=True)
class Loss(ABC):
    """A pure function of the embeddings of all ranks; the mean of its value over ranks is the loss of the global batch.

    Args:
        cross_device: look at the rows of all ranks (True) or only at those of this rank (False: every rank is a
            batch of its own, and the loss of the step is the mean over ranks).
    """

    tasks: ClassVar[frozenset[Task]]

    cross_device: bool = True

    @abstractmethod
    def __call__(self, batch: LossInput) -> LossOutput:
        """Compute the loss of the rows `batch.rows`, or of all rows where it cannot be split by rows."""
