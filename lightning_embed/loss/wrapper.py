"""Base class of losses that wrap a loss."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from lightning_embed import registry
from lightning_embed.errors import ConfigError
from lightning_embed.loss import infonce as infonce  # the default must be registered
from lightning_embed.loss.base import Learned, Loss
from lightning_embed.types import Task


@dataclass(frozen=True)
class Wrapper(Loss):
    """A loss that wraps a loss and has its properties.

    Args:
        loss: the wrapped loss, or its options with its word as `name`.

    Raises:
        ConfigError: `loss` is neither.
    """

    loss: Any = field(default_factory=lambda: {"name": "infonce"})

    def __post_init__(self) -> None:
        if isinstance(self.loss, Mapping) and "name" in self.loss:
            object.__setattr__(self, "loss", registry.build("loss", self.loss))
        if not isinstance(self.loss, Loss):
            raise ConfigError(
                f"loss must be a loss, or its options with a name like {{name: infonce}}, got {self.loss!r}."
                " On the command line: loss@retrieval_loss.loss=infonce."
            )

    @property
    def inner(self) -> Loss:
        """The wrapped loss."""
        assert isinstance(self.loss, Loss)
        return self.loss

    @property
    def tasks(self) -> frozenset[Task]:
        """As the wrapped loss."""
        return self.inner.tasks

    @property
    def cross_device(self) -> bool:
        """As the wrapped loss."""
        return self.inner.cross_device

    @property
    def needs_middle(self) -> bool:
        """As the wrapped loss."""
        return self.inner.needs_middle

    @property
    def needs_teacher(self) -> bool:
        """As the wrapped loss."""
        return self.inner.needs_teacher

    @property
    def learned(self) -> Mapping[str, Learned]:
        """As the wrapped loss."""
        return self.inner.learned

    @property
    def signal(self) -> Loss:
        """Around the signal of the wrapped loss."""
        return replace(self, loss=self.inner.signal)

    @property
    def needs_teacher_embeddings(self) -> bool:
        """As the wrapped loss."""
        return self.inner.needs_teacher_embeddings

    @property
    def needs_pairs(self) -> bool:
        """As the wrapped loss."""
        return self.inner.needs_pairs

    def needs_negatives(self, task: Task) -> bool:
        """As the wrapped loss."""
        return self.inner.needs_negatives(task)
