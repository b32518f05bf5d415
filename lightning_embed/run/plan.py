"""The planned trainings of a run, and their tables on the terminal."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from omegaconf import DictConfig, OmegaConf
from rich.box import SIMPLE_HEAD
from rich.table import Table

from lightning_embed.config.queries import num_ranks
from lightning_embed.data import EmbeddingDataModule
from lightning_embed.experts import Expert
from lightning_embed.run import build
from lightning_embed.run.terminal import console
from lightning_embed.sampler import StepSampler
from lightning_embed.sampler.seen import RowsSeen, rows_seen
from lightning_embed.types import TrainSet


@dataclass(frozen=True)
class PlannedTraining:
    """One training of a run: an expert, its batches, and its config: the run's, with its own options."""

    expert: Expert
    batches: EmbeddingDataModule
    cfg: DictConfig

    @property
    def limits(self) -> tuple[int, int | None]:
        """The maximum numbers of steps and of epochs."""
        return self.cfg.trainer.max_steps, self.cfg.trainer.max_epochs


def print_experts(cfg: DictConfig, trainings: Sequence[PlannedTraining], train_sets: Mapping[str, TrainSet]) -> None:
    """Print the datasets, rows, steps and cost of each expert; costs are relative to one joint training."""
    limits = cfg.trainer.max_steps, cfg.trainer.max_epochs
    sampler, ranks = build.sampler(cfg), num_ranks(cfg) or 1
    fitted = {name: sampler.fitted(name, feed, ranks) for name, feed in train_sets.items()}
    whole = StepSampler(sampler, fitted, seed=0).num_rows(*limits)
    table = Table(title_justify="left", box=SIMPLE_HEAD)
    for column in ("expert", "starts from", "datasets", "rows", "steps", "warm-up steps", "cost"):
        table.add_column(column, justify="left" if column in ("expert", "starts from", "datasets") else "right")
    costs = [training.batches.num_rows(*training.limits) / whole for training in trainings]
    for training, cost in zip(trainings, costs, strict=True):
        expert, rows, steps = training.expert, training.batches.train_rows, training.batches.num_steps(*training.limits)
        warmup = OmegaConf.select(training.cfg, "scheduler.warmup_share")
        table.add_row(
            expert.name, expert.start, ", ".join(rows), f"{sum(map(len, rows.values())):,}",
            f"{steps:,}", "-" if warmup is None else f"{round(warmup * steps):,}", f"{cost:.2f}",
        )  # fmt: skip
    experts = "1 expert" if len(trainings) == 1 else f"{len(trainings)} experts"
    table.title = f"{experts}, {sum(costs):.2f} times the cost of one joint training"
    console.print(table)


def print_plan(training: PlannedTraining) -> None:
    """Print, for each dataset of an expert: rows, batches, share of batches, rows left in an epoch, rows seen in all."""
    batches = training.batches
    stream = batches.steps()
    steps = batches.num_steps(*training.limits)
    seen = rows_seen(stream, steps)
    length = f"{steps:,} steps, {steps / len(stream):.2f} epochs of {len(stream):,} steps"
    table = Table(title=f"{training.expert.name}: {length}", title_justify="left", box=SIMPLE_HEAD)
    headers = (
        "dataset",
        "task",
        "rows",
        "batch size",
        "batches an epoch",
        "share of batches",
        "rows left",
        "rows seen",
    )
    for column in headers:
        table.add_column(column, justify="left" if column in ("dataset", "task") else "right", no_wrap=column == "task")
    for name, count in stream.num_batches.items():
        feed = stream.datasets[name]
        size = stream.schedule.batch_rows(feed)
        share = f"{count / sum(stream.num_batches.values()):.1%}"
        table.add_row(
            name, feed.task, f"{feed.num_rows:,}", str(size), f"{count:,}", share,
            f"{feed.num_rows - count * size:,}", str(seen[name]),
        )  # fmt: skip
    console.print(table)
    for hint in hints(training, stream, steps, seen):
        console.print(hint, style="yellow", markup=False, highlight=False)


def hints(training: PlannedTraining, stream: StepSampler, steps: int, seen: Mapping[str, RowsSeen]) -> Iterator[str]:
    """Sentences on small batches, and on datasets that a training does not reach."""
    for name, feed in stream.datasets.items():
        asked = training.batches.train_rows[name].options.batch_size
        if feed.batch_size < asked:
            yield (
                f"{name}: {feed.num_rows:,} rows do not fill a step of batch_size={asked}: it trains with "
                f"batch_size={feed.batch_size}."
            )
    for name, rows in seen.items():
        if rows.first_step is None:
            yield f"{name}: never used: the sampler leaves out its batches, which fill no step. Add rows, or train it alone."
        elif not rows.drawn:
            yield (
                f"{name}: not reached in {steps:,} steps: its first batch is in step {rows.first_step:,}. "
                "Raise trainer.max_steps, or leave it out."
            )
