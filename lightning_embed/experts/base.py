"""The interface of a plan of experts."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from lightning_embed.errors import ConfigError, nearest
from lightning_embed.experts.stage import Stage
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
        options: options of its training in place of the run's, by key of the config; see `Stage`.
        num_sources: models that it gives to the merge, see `Stage`; None: as the plan's `snapshots`.
        path: directory of an existing model, which is only a source of the merge and has no rows.
        seed: 0: the seed of the run; otherwise a different order of rows, different drawn texts and dropout.
    """

    name: str
    rows: Mapping[str, Sequence[int] | None]
    start: str = BASE
    path: str | None = None
    seed: int = 0
    start_path: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    num_sources: int | None = None

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
        snapshot_share: share of each training, at its end, that the snapshots divide, in (0, 1]; 1: all of it.
        seeds: trainings of each expert, which differ in order of rows, drawn texts and dropout.
        ema: decay per step of an exponential moving average of the weights, which becomes one more source; in (0, 1),
            typically 0.99 to 0.999; with LoRA, of the adapters. None: none.
        stages: name -> options of a stage, in their order: every expert trains through those that have data of its own,
            each from the model of the one before. Empty: one, with the options of the run.

    Raises:
        ConfigError: a number out of its range.
    """

    datasets: list[str] = field(default_factory=list)
    only: str | None = None
    jobs: Jobs = Jobs.here
    retries: int = 1
    snapshots: int = 1
    snapshot_share: float = 1.0
    seeds: int = 1
    ema: float | None = None
    stages: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.built_stages  # noqa: B018  # refuses options of no stage
        for name in ("snapshots", "seeds"):
            if getattr(self, name) < 1:
                raise ConfigError(f"experts.{name} must be at least 1, got {getattr(self, name)}.")
        if not 0 < self.snapshot_share <= 1:
            raise ConfigError(f"experts.snapshot_share must be in (0, 1], got {self.snapshot_share}.")
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
        self._check_stages(datasets)
        whole = [copy for expert in self.experts(datasets, seed, measure) for copy in self._seeded(expert)]
        planned = [stage for expert in whole for stage in self._staged(expert)]
        experts = {expert.name: expert for expert in planned}
        names = [name for expert in planned for name in self.models(expert)]
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

    @cached_property
    def built_stages(self) -> list[Stage]:
        """The stages, in their order."""
        return [Stage.of(name, given) for name, given in self.stages.items()]

    def _check_stages(self, datasets: Mapping[str, TrainSet]) -> None:
        for stage in self.built_stages:
            for name in stage.datasets:
                if name not in datasets:
                    raise ConfigError(
                        f"experts.stages.{stage.name}.datasets: no dataset {name!r} with train rows. "
                        f"{nearest(name, datasets)}"
                    )

    def _staged(self, expert: Expert) -> list[Expert]:
        """One expert per stage that has data of it; the last has its name, those before also that of the stage."""
        if expert.path is not None or not self.built_stages:
            return [expert]
        stages = [(stage, rows) for stage in self.built_stages if (rows := stage.rows(expert.rows))]
        if not stages:
            raise ConfigError(f"experts.stages: none has a dataset of {expert.name}: {', '.join(expert.rows)}.")
        staged: list[Expert] = []
        for number, (stage, rows) in enumerate(stages, start=1):
            name = expert.name if number == len(stages) else f"{expert.name}-{stage.name}"
            stage_expert = replace(
                expert,
                name=name,
                rows=rows,
                options={**expert.options, **stage.options},
                num_sources=stage.sources,
            )
            if staged:
                stage_expert = replace(stage_expert, start=staged[-1].name, start_path=None)
            staged.append(stage_expert)
        return staged

    def num_snapshots(self, expert: Expert) -> int:
        """Snapshots of an expert's training, at equal distances, of which its model is the last."""
        return self.snapshots if expert.num_sources is None else max(1, expert.num_sources)

    def part_done(self, expert: Expert, number: int) -> float:
        """The share of an expert's training that is over at a model of `models`, counted from 1; 1 at an average."""
        return min(1.0, 1 - self.snapshot_share + self.snapshot_share * number / self.num_snapshots(expert))

    def sources(self, expert: Expert) -> list[str]:
        """Names of the models that an expert gives to the merge."""
        return [] if expert.num_sources == 0 else self.models(expert)

    def models(self, expert: Expert) -> list[str]:
        """Names of the models that the training of an expert makes: its snapshots in order, its average, itself."""
        if expert.path is not None:
            return [expert.name]
        snapshots = [f"{expert.name}-snapshot_{number}" for number in range(1, self.num_snapshots(expert))]
        return [*snapshots, *([f"{expert.name}-ema"] if self.ema is not None else []), expert.name]
