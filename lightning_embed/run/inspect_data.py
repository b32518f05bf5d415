"""`inspect=true`: the data as the encoder sees it, the plan, and what it will cost."""

import resource
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lightning_embed.data import EmbeddingDataModule, EmbeddingDataset
from lightning_embed.data.row_groups import Rows
from lightning_embed.encoder import Encoder
from lightning_embed.experts import Expert
from lightning_embed.run import build
from lightning_embed.types import Batch

_SAMPLE = 1000  # rows looked at for truncation and repetition


def show(
    console: Console,
    cfg: DictConfig,
    encoder: Encoder,
    data: Mapping[str, EmbeddingDataset],
    experts: Sequence[Expert],
    modules: Sequence[EmbeddingDataModule],
    joint: EmbeddingDataModule,
) -> None:
    """Print texts, statistics, plan and estimated cost; trains nothing, writes nothing."""
    step = {}
    for expert, batches in zip(experts, modules, strict=True):
        for batch in batches.first_batches():
            if batch.dataset not in step:
                _print_texts(console, encoder, batch)
                step[batch.dataset] = _measure(cfg, encoder, batch)
        show_plan(console, expert, batches, cfg.trainer)
        _print_cost(console, cfg, batches, step)
    show_experts(console, cfg, experts, modules, joint)
    _print_datasets(console, encoder, data)


def show_experts(
    console: Console,
    cfg: DictConfig,
    experts: Sequence[Expert],
    modules: Sequence[EmbeddingDataModule],
    joint: EmbeddingDataModule,
) -> None:
    """Print what each expert trains on, for how long, and what all cost relative to one joint training."""
    limits = cfg.trainer.max_steps, cfg.trainer.max_epochs
    whole = joint.num_rows(*limits)
    table = Table(title_justify="left", box=SIMPLE_HEAD)
    for column in ("expert", "starts from", "datasets", "rows", "steps", "warm-up steps", "cost"):
        table.add_column(column, justify="left" if column in ("expert", "starts from", "datasets") else "right")
    for expert, batches in zip(experts, modules, strict=True):
        steps = batches.num_steps(*limits)
        warmup = OmegaConf.select(cfg, "scheduler.warmup_share")
        table.add_row(
            expert.name, expert.start, ", ".join(batches.train_rows), f"{sum(map(len, batches.train_rows.values())):,}",
            f"{steps:,}", "-" if warmup is None else f"{round(warmup * steps):,}", f"{batches.num_rows(*limits) / whole:.2f}",
        )  # fmt: skip
    total = sum(batches.num_rows(*limits) for batches in modules) / whole
    table.title = f"{len(experts)} expert{'s' * (len(experts) != 1)}, {total:.2f} times the cost of one joint training"
    console.print(table)


def show_plan(console: Console, expert: Expert, batches: EmbeddingDataModule, trainer: Any) -> None:
    """Print, per dataset of an expert, rows, batches, share of batches, and rows that an epoch leaves to the next."""
    stream = batches.steps()
    steps = batches.num_steps(trainer.max_steps, trainer.max_epochs)
    length = f"{steps:,} steps, {steps / len(stream):.2f} epochs of {len(stream):,} steps"
    table = Table(title=f"{expert.name}: {length}", title_justify="left", box=SIMPLE_HEAD)
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
        console.print(f"[yellow]never reached in {steps:,} steps: {', '.join(missed)}[/yellow]")


def _print_texts(console: Console, encoder: Encoder, batch: Batch) -> None:
    """The first row, token by token: prompt, special tokens and cut included."""
    console.print(f"\n[bold]{batch.dataset}[/bold] ({batch.task}): the first row as the encoder sees it")
    roles = {"query": batch.query[:1], "positive": batch.positives[0], "negative": batch.negatives[0]}
    for role, index in roles.items():
        for text in index[index >= 0].tolist():
            ids = batch.tokens.ids[batch.tokens.offsets[text] : batch.tokens.offsets[text + 1]]
            console.print(f"  {role:<9}{escape(encoder.tokenizer.tokenizer.decode(ids))}  [dim]{len(ids)} tokens[/dim]")
    if batch.score is not None:
        console.print(f"  score    {batch.score[0]:.3f} of 1")


def _print_datasets(console: Console, encoder: Encoder, data: Mapping[str, EmbeddingDataset]) -> None:
    table = Table(title=f"Datasets (texts of {_SAMPLE:,} rows at most)", title_justify="left", box=SIMPLE_HEAD)
    for column in ("dataset", "train", "dev", "test sets", "tokens a text", "texts at max_length", "texts repeated"):
        table.add_column(column, justify="left" if column == "dataset" else "right")
    for name, dataset in data.items():
        tests = sum(s.split == "test" for s in dataset.eval_sets)
        counts = [f"{len(rows):,}" if rows is not None else "-" for rows in (dataset.train, dataset.dev)]
        table.add_row(
            name, *counts, str(tests), *(_statistics(encoder, dataset.train) if dataset.train else ("-",) * 3)
        )
    console.print(table)


def _statistics(encoder: Encoder, rows: Rows) -> tuple[str, str, str]:
    """Mean tokens of a text, share of texts as long as the limit (what is longer is cut), share that occur again."""
    texts = [text for row in range(min(len(rows), _SAMPLE)) for text in rows.texts(row)]
    limit = min(rows.options.max_length or encoder.tokenizer.max_length, encoder.tokenizer.max_length)
    lengths = encoder.tokenizer(texts, max_length=limit).lengths
    full = (lengths >= limit).float().mean()
    return f"{lengths.float().mean():.0f}", f"{full:.1%}", f"{1 - len(set(texts)) / len(texts):.1%}"


def _measure(cfg: DictConfig, encoder: Encoder, batch: Batch) -> float:
    """Seconds of one forward and backward pass, the second of two."""
    device = torch.device(build.device(cfg))
    module = build.module(cfg, encoder.to(device), [batch.task], Expert("inspected", {}))
    for _ in range(2):
        start = time.perf_counter()
        module.run_backward(batch.to(device), lambda value, _: value.backward(), seed=0)  # type: ignore[no-untyped-call]
        encoder.zero_grad()
        if device.type == "cuda":
            torch.cuda.synchronize()
    return time.perf_counter() - start


def _print_cost(console: Console, cfg: DictConfig, batches: EmbeddingDataModule, seconds: Mapping[str, float]) -> None:
    stream = batches.steps()
    share = {name: count / len(stream) for name, count in stream.num_batches.items()}
    steps = batches.num_steps(cfg.trainer.max_steps, cfg.trainer.max_epochs)
    total = steps * sum(share[name] * seconds.get(name, 0.0) for name in share)
    if build.device(cfg) == "cuda":
        memory, where = torch.cuda.max_memory_allocated() / 2**30, "on the GPU"
    else:
        memory, where = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, "of this process"
    console.print(f"about {total / 60:.1f} minutes on this machine, {memory:.1f} GiB {where}\n")
