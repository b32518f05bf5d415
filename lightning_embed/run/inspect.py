"""`inspect=true`: the data as the encoder sees it, the plan, and its estimated cost."""

import resource
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial

import torch
from omegaconf import DictConfig
from rich.text import Text

from lightning_embed.config.components import instantiated
from lightning_embed.data import EmbeddingDataset
from lightning_embed.encoder import Encoder
from lightning_embed.experts import Expert, Jobs
from lightning_embed.run import build
from lightning_embed.run.data_tables import print_datasets, print_overlaps
from lightning_embed.run.expert_jobs import print_jobs
from lightning_embed.run.memory import Memory, gibibytes, held
from lightning_embed.run.plan import PlannedTraining, print_experts, print_plan
from lightning_embed.run.prepare import Prepared
from lightning_embed.run.terminal import console
from lightning_embed.storage.names import visible_lines
from lightning_embed.types import Batch

_MEASURING = 2.0  # seconds, after which the steps of more datasets are estimated


def inspect(prepared: Prepared) -> None:
    """Print texts, statistics, plan and estimated cost, without training or writing anything."""
    cfg, encoder = prepared.cfg, prepared.base
    seconds: dict[str, float] = {}
    for training in prepared.trainings:
        new = [batch for batch in training.batches.first_batches() if batch.dataset not in seconds]
        for batch in new:
            _print_texts(encoder, batch)
        seconds |= step_seconds(new, partial(_seconds, training.cfg, encoder, prepared.data))
        print_plan(training)
        _print_cost(training, seconds, held(encoder, instantiated("optimizer", training.cfg.optimizer)))
    print_experts(cfg, prepared.trainings, prepared.train_sets)
    print_datasets(encoder, prepared.data)
    print_overlaps(prepared.data)
    if prepared.plan.jobs == Jobs.launcher:
        print_jobs(prepared)


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


def step_seconds(batches: Iterable[Batch], measured: Callable[[Batch], float]) -> dict[str, float]:
    """Seconds of a step of each dataset, those with the most tokens measured; after some time, by tokens of a task."""
    found, by_task, begin = dict[str, float](), dict[str, float](), time.perf_counter()
    for batch in sorted(batches, key=lambda batch: -len(batch.tokens.ids)):
        tokens = max(1, len(batch.tokens.ids))
        if batch.task not in by_task or time.perf_counter() - begin < _MEASURING:
            found[batch.dataset] = measured(batch)
            by_task[batch.task] = found[batch.dataset] / tokens
        else:
            found[batch.dataset] = by_task[batch.task] * tokens
    return found


def _seconds(cfg: DictConfig, encoder: Encoder, data: Mapping[str, EmbeddingDataset], batch: Batch) -> float:
    """Seconds of a forward and backward pass, after one pass of warm-up."""
    device = torch.device(build.device(cfg))
    batch = replace(batch, teacher=torch.zeros(len(batch.tokens), encoder.dim))  # the teacher is not asked yet
    module = build.module(
        cfg, encoder.to(device), {batch.dataset: data[batch.dataset].options}, Expert("inspected", {})
    )
    for _ in range(2):
        start = time.perf_counter()
        module.run_backward(batch.to(device), lambda value, _: value.backward(), seed=0)  # type: ignore[no-untyped-call]
        encoder.zero_grad()
        if device.type == "cuda":
            torch.cuda.synchronize()
    return time.perf_counter() - start


def _print_cost(training: PlannedTraining, seconds: Mapping[str, float], memory: Memory) -> None:
    cfg, stream = training.cfg, training.batches.steps()
    share = {name: count / len(stream) for name, count in stream.num_batches.items()}
    steps = training.batches.num_steps(*training.limits)
    total = steps * sum(share[name] * seconds.get(name, 0.0) for name in share)
    if build.device(cfg) == "cuda":
        peak, where = torch.cuda.max_memory_allocated(), "on the GPU"
    else:
        peak, where = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, "of this process"
    # measured with all but the states of the optimiser, which come with its first step
    console.print(f"about {total / 60:.1f} minutes on this machine, {gibibytes(peak + memory.states)} {where}")
    parts = {
        f"weights ({cfg.encoder.weights})": memory.weights,
        "gradients": memory.gradients,
        "states of the optimiser": memory.states,
    }
    console.print(f"of these {', '.join(f'{name} {gibibytes(size)}' for name, size in parts.items())}\n")
