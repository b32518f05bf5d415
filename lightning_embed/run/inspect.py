"""`inspect=true`: the data as the encoder sees it, the plan, and its estimated cost."""

import resource
import time
from collections.abc import Mapping

import torch
from omegaconf import DictConfig
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from lightning_embed.data import EmbeddingDataModule, EmbeddingDataset
from lightning_embed.data.row_groups import Rows
from lightning_embed.encoder import Encoder
from lightning_embed.experts import Expert
from lightning_embed.run import build
from lightning_embed.run.plan import print_experts, print_plan
from lightning_embed.run.prepare import Prepared
from lightning_embed.run.terminal import console
from lightning_embed.storage.names import visible_lines
from lightning_embed.types import Batch

_SAMPLE = 1000  # rows used for the statistics of a dataset


def inspect(prepared: Prepared) -> None:
    """Print texts, statistics, plan and estimated cost, without training or writing anything."""
    cfg, encoder = prepared.cfg, prepared.base
    seconds: dict[str, float] = {}
    for training in prepared.trainings:
        for batch in training.batches.first_batches():
            if batch.dataset not in seconds:
                _print_texts(encoder, batch)
                seconds[batch.dataset] = _seconds(cfg, encoder, batch)
        print_plan(training, cfg.trainer)
        _print_cost(cfg, training.batches, seconds)
    print_experts(cfg, prepared.trainings, prepared.train_sets)
    _print_datasets(encoder, prepared.data)


def _print_texts(encoder: Encoder, batch: Batch) -> None:
    """Print the decoded tokens of the first row: with prompt and special tokens, and truncated."""
    console.print(
        Text.assemble("\n", (batch.dataset, "bold"), f" ({batch.task}): the first row as the encoder sees it")
    )
    roles = {"query": batch.query[:1], "positive": batch.positives[0], "negative": batch.negatives[0]}
    for role, index in roles.items():
        for text in index[index >= 0].tolist():
            ids = batch.tokens.ids[batch.tokens.offsets[text] : batch.tokens.offsets[text + 1]]
            decoded = visible_lines(encoder.tokenizer.tokenizer.decode(ids))
            console.print(Text.assemble(f"  {role:<9}{decoded}  ", (f"{len(ids)} tokens", "dim")))
    if batch.score is not None:
        console.print(f"  score    {batch.score[0]:.3f} of 1")


def _print_datasets(encoder: Encoder, data: Mapping[str, EmbeddingDataset]) -> None:
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
    """Mean tokens per text, share of texts at the length limit (longer ones are truncated), share of repeated texts."""
    texts = [text for row in range(min(len(rows), _SAMPLE)) for text in rows.texts(row)]
    limit = min(rows.options.max_length or encoder.tokenizer.max_length, encoder.tokenizer.max_length)
    lengths = encoder.tokenizer(texts, max_length=limit).lengths
    full = (lengths >= limit).float().mean()
    return f"{lengths.float().mean():.0f}", f"{full:.1%}", f"{1 - len(set(texts)) / len(texts):.1%}"


def _seconds(cfg: DictConfig, encoder: Encoder, batch: Batch) -> float:
    """Seconds of a forward and backward pass, after one pass of warm-up."""
    device = torch.device(build.device(cfg))
    module = build.module(cfg, encoder.to(device), [batch.task], Expert("inspected", {}))
    for _ in range(2):
        start = time.perf_counter()
        module.run_backward(batch.to(device), lambda value, _: value.backward(), seed=0)  # type: ignore[no-untyped-call]
        encoder.zero_grad()
        if device.type == "cuda":
            torch.cuda.synchronize()
    return time.perf_counter() - start


def _print_cost(cfg: DictConfig, batches: EmbeddingDataModule, seconds: Mapping[str, float]) -> None:
    stream = batches.steps()
    share = {name: count / len(stream) for name, count in stream.num_batches.items()}
    steps = batches.num_steps(cfg.trainer.max_steps, cfg.trainer.max_epochs)
    total = steps * sum(share[name] * seconds.get(name, 0.0) for name in share)
    if build.device(cfg) == "cuda":
        memory, where = torch.cuda.max_memory_allocated() / 2**30, "on the GPU"
    else:
        memory, where = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, "of this process"
    console.print(f"about {total / 60:.1f} minutes on this machine, {memory:.1f} GiB {where}\n")
