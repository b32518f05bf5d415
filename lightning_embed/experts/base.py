"""The contract of a plan of experts."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lightning_embed.errors import ConfigError, nearest
from lightning_embed.types import Task

BASE = "base"  # the name of the model that all experts start from


@dataclass(frozen=True)
class TrainSet:
    """What a plan knows of a dataset."""

    task: Task
    num_rows: int


@dataclass(frozen=True)
class Expert:
    """One model that a run trains from the base.

    Args:
        name: of its folder, its logged run and its row in the results.
        rows: of each dataset that it trains on, the chosen train rows (None: all).
    """

    name: str
    rows: Mapping[str, Sequence[int] | None]

    def num_rows(self, datasets: Mapping[str, TrainSet]) -> int:
        """Rows of an epoch: the `size` that a merge may weight this expert by."""
        return sum(datasets[name].num_rows if rows is None else len(rows) for name, rows in self.rows.items())


@dataclass(frozen=True)
class ExpertPlan(ABC):
    """Turns the datasets of a run into experts.

    Args:
        only: train only the expert of this name and stop before the merge: so that each can have its own machine.
    """

    only: str | None = None

    @abstractmethod
    def experts(self, datasets: Mapping[str, TrainSet]) -> list[Expert]:
        """All experts of the plan; a pure function of the datasets."""

    def chosen(self, datasets: Mapping[str, TrainSet]) -> list[Expert]:
        """The experts to train now.

        Raises:
            ConfigError: `only` names no expert of the plan, or an expert has the name of the base.
        """
        experts = {expert.name: expert for expert in self.experts(datasets)}
        if BASE in experts:
            raise ConfigError(
                f"An expert cannot be called {BASE!r}: that is the model all start from. Rename the dataset."
            )
        if self.only is None:
            return list(experts.values())
        if self.only not in experts:
            raise ConfigError(f"experts.only={self.only}: no such expert. {nearest(self.only, experts)}")
        return [experts[self.only]]
