"""The planned trainings of a run, and their tables on the terminal."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.box import SIMPLE_HEAD
from rich.table import Table

from lightning_embed.data import EmbeddingDataModule
from lightning_embed.experts import Expert
from lightning_embed.run import build
from lightning_embed.run.terminal import console
from lightning_embed.sampler import StepSampler
from lightning_embed.types import TrainSet


@dataclass(frozen=True)
class PlannedTraining:
    """One training of a run: an expert and its batches."""

    expert: Expert
    batches: EmbeddingDataModule


def print_experts(cfg: DictConfig, trainings: Sequence[PlannedTraining], train_sets: Mapping[str, TrainSet]) -> None:
    """Print the datasets, rows, steps and cost of each expert; costs are relative to one joint training."""
    limits = cfg.trainer.max_steps, cfg.trainer.max_epochs
    whole = StepSampler(build.sampler(cfg), train_sets, seed=0).num_rows(*limits)
    table = Table(title_justify="left", box=SIMPLE_HEAD)
    for column in ("expert", "starts from", "datasets", "rows", "steps", "warm-up steps", "cost"):
        table.add_column(column, justify="left" if column in ("expert", "starts from", "datasets") else "right")
    costs = [training.batches.num_rows(*limits) / whole for training in trainings]
    for training, cost in zip(trainings, costs, strict=True):
        expert, rows, steps = training.expert, training.batches.train_rows, training.batches.num_steps(*limits)
        warmup = OmegaConf.select(cfg, "scheduler.warmup_share")
        table.add_row(
            expert.name, expert.start, ", ".join(rows), f"{sum(map(len, rows.values())):,}",
            f"{steps:,}", "-" if warmup is None else f"{round(warmup * steps):,}", f"{cost:.2f}",
        )  # fmt: skip
    experts = "1 expert" if len(trainings) == 1 else f"{len(trainings)} experts"
    table.title = f"{experts}, {sum(costs):.2f} times the cost of one joint training"
    console.print(table)


def print_plan(training: PlannedTraining, trainer: Any) -> None:
    """Print, for each dataset of an expert, its rows, batches, share of batches, and rows left over in an epoch."""
    batches = training.batches
    stream = batches.steps()
    steps = batches.num_steps(trainer.max_steps, trainer.max_epochs)
    length = f"{steps:,} steps, {steps / len(stream):.2f} epochs of {len(stream):,} steps"
    table = Table(title=f"{training.expert.name}: {length}", title_justify="left", box=SIMPLE_HEAD)
    for column in ("dataset", "task", "rows", "batch size", "batches an epoch", "share of batches", "rows left"):
        table.add_column(column, justify="left" if column in ("dataset", "task") else "right")
    for name, count in stream.num_batches.items():
        feed = stream.datasets[name]
        size = stream.schedule.batch_rows(feed)
        share = f"{count / sum(stream.num_batches.values()):.1%}"
        dropped = f"{feed.num_rows - count * size:,}"
        table.add_row(name, feed.task, f"{feed.num_rows:,}", str(size), f"{count:,}", share, dropped)
    console.print(table)
    reached = set(stream.order(0)[:steps].flatten().tolist())
    if missed := [name for number, name in enumerate(stream.datasets) if number not in reached]:
        console.print(f"never reached in {steps:,} steps: {', '.join(missed)}", style="yellow")
