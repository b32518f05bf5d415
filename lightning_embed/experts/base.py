"""The interface of a plan of experts."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from lightning_embed.errors import ConfigError, nearest
from lightning_embed.storage.names import check_name
from lightning_embed.types import BASE, TrainSet


@runtime_checkable
class Measure(Protocol):
    """Measurements of datasets that a plan may request; each is computed once and cached."""

    def embeddings(self) -> Mapping[str, Float[Tensor, " dims"]]:
        """For each dataset, by the base: the mean embedding of 100 queries, concatenated with that of 100 documents."""
        ...

    def losses(self) -> Mapping[str, Mapping[str, float]]:
        """Dev losses, model -> dataset -> loss, of one trained model per dataset and one named joint."""
        ...


class Jobs(StrEnum):
    """here: the command trains all experts, one after the other. launcher: each is a job of Hydra's launcher."""

    here = "here"
    launcher = "launcher"


@dataclass(frozen=True)
class Expert:
    """One model of a run.

    Args:
        name: of its folder, its logged run and its row in the results.
        rows: the chosen train rows of each dataset that it trains on (None: all).
        start: the model that it starts from: BASE, or the name of an earlier expert.
        start_path: directory of that model, where it is none of this run's own.
        path: directory of an existing model, which is only a source of the merge and has no rows.
        seed: 0: the seed of the run; otherwise a different order of rows, different drawn texts and dropout.
    """

    name: str
    rows: Mapping[str, Sequence[int] | None]
    start: str = BASE
    path: str | None = None
    seed: int = 0
    start_path: str | None = None

    def num_rows(self, datasets: Mapping[str, TrainSet]) -> int:
        """Rows of an epoch: the `size` of this expert, which a merge may use as its weight."""
        return sum(datasets[name].num_rows if rows is None else len(rows) for name, rows in self.rows.items())


@dataclass(frozen=True, kw_only=True)
class ExpertPlan(ABC):
    """The experts of a run, from its datasets.

    Args:
        datasets: names of the datasets to train on; the others are only evaluated, as out of domain, and their train
            rows are not used. Empty: all.
        only: train only the expert of this name and stop before the merge, so that each can run on its own machine.
        jobs: here, or launcher: one job of Hydra's launcher for each expert; the command then merges.
        retries: times that a job that failed is started again; one with an error that would return is not.
        snapshots: sources out of each training, at equal distances; the last is the expert itself.
        seeds: trainings of each expert, which differ in order of rows, drawn texts and dropout.
        ema: decay per step of an exponential moving average of the weights, which becomes one more source; in (0, 1),
            typically 0.99 to 0.999; with LoRA, of the adapters. None: none.

    Raises:
        ConfigError: a number out of its range.
    """

    datasets: list[str] = field(default_factory=list)
    only: str | None = None
    jobs: Jobs = Jobs.here
    retries: int = 1
    snapshots: int = 1
    seeds: int = 1
    ema: float | None = None

    def __post_init__(self) -> None:
        for name in ("snapshots", "seeds"):
            if getattr(self, name) < 1:
                raise ConfigError(f"experts.{name} must be at least 1, got {getattr(self, name)}.")
        if self.retries < 0:
            raise ConfigError(f"experts.retries must be at least 0, got {self.retries}.")
        if self.ema is not None and not 0 < self.ema < 1:
            raise ConfigError(f"experts.ema must be in (0, 1) or null, got {self.ema}.")

    @abstractmethod
    def experts(self, datasets: Mapping[str, TrainSet], seed: int, measure: Measure) -> list[Expert]:
        """The experts of the plan, each once; a pure function of the arguments.

        Args:
            datasets: the train sets, by name.
            seed: of the run, for plans that draw.
            measure: for plans that depend on data or models.
        """

    def chosen(self, datasets: Mapping[str, TrainSet], seed: int, measure: Measure) -> list[Expert]:
        """The experts of this command, once per seed.

        Raises:
            ConfigError: `only` names no expert of the plan, or a name cannot be that of an expert.
        """
        planned = [copy for expert in self.experts(datasets, seed, measure) for copy in self._seeded(expert)]
        experts = {expert.name: expert for expert in planned}
        names = [name for expert in planned for name in self.sources(expert)]
        for name in names:
            check_name("experts", name)
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ConfigError(f"Two models of this plan would be called {twice[0]!r}. Rename a dataset.")
        if BASE in experts:
            raise ConfigError(
                f"An expert cannot be called {BASE!r}: that is the start of all experts. Rename the dataset."
            )
        if self.only is None:
            return planned
        if self.only not in experts:
            raise ConfigError(f"experts.only={self.only}: no such expert. {nearest(self.only, experts)}")
        if experts[self.only].path is not None:
            raise ConfigError(f"experts.only={self.only}: that model exists already and needs no training.")
        return [experts[self.only]]

    def _seeded(self, expert: Expert) -> list[Expert]:
        """One copy per seed; the first is the expert as planned."""
        if expert.path is not None:
            return [expert]
        existing = None if expert.start_path is None else expert.start

        def name(of: str, seed: int) -> str:
            return of if seed == 0 or of in (BASE, existing) else f"{of}-seed_{seed}"

        return [
            replace(expert, name=name(expert.name, seed), start=name(expert.start, seed), seed=seed)
            for seed in range(self.seeds)
        ]

    def sources(self, expert: Expert) -> list[str]:
        """Names of the models that an expert gives to the merge: its snapshots in order, its average, itself."""
        if expert.path is not None:
            return [expert.name]
        snapshots = [f"{expert.name}-snapshot_{number}" for number in range(1, self.snapshots)]
        return [*snapshots, *([f"{expert.name}-ema"] if self.ema is not None else []), expert.name]
