"""Datasets as samplers see them, and a sampler's order as plain lists."""

import torch

from lightning_embed.sampler import BatchPlan, Sampler, StepSampler
from lightning_embed.types import Task, TrainSet

FEEDS = {
    "several": {
        "a": TrainSet(Task.retrieval, 263, 16),
        "b": TrainSet(Task.sts, 160, 32),
        "c": TrainSet(Task.sts, 31, 32),
        "d": TrainSet(Task.classification, 48, 16),
        "e": TrainSet(Task.retrieval, 97, 48),
    },
    "two": {"a": TrainSet(Task.retrieval, 200, 16), "b": TrainSet(Task.sts, 97, 32)},
    "one": {"a": TrainSet(Task.clustering, 325, 32)},
    "equal": {f"d{number}": TrainSet(Task.retrieval, 128, 32) for number in range(6)},
}
Step = list[tuple[str, list[int], float]]


def feeds_of(*batches: int, tasks: str = "sts") -> dict[str, TrainSet]:
    """Datasets of so many batches of 8 rows."""
    words = tasks.split() * len(batches)
    return {f"d{number}": TrainSet(Task(words[number]), 8 * count, 8) for number, count in enumerate(batches)}


def order(sampler: Sampler, feeds: dict[str, TrainSet], seed: int = 0) -> torch.Tensor:
    return sampler.order(feeds, torch.Generator().manual_seed(seed))


def plain(step: list[BatchPlan]) -> Step:
    return [(plan.dataset, plan.rows.tolist(), plan.weight) for plan in step]


def steps(stream: StepSampler, epoch: int = 0) -> list[Step]:
    stream.set_epoch(epoch)
    return [plain(step) for step in stream]
