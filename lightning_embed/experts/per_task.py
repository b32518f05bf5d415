"""`experts=per_task`."""

from collections.abc import Mapping
from dataclasses import dataclass

from lightning_embed.experts.base import Expert, ExpertPlan, Measure
from lightning_embed.registry import register
from lightning_embed.types import TrainSet


@register("experts", "per_task")
@dataclass(frozen=True)
class PerTask(ExpertPlan):
    """One expert per task, on all datasets of that task, each from the base.

    The "Separate" pipeline of Self Positioning (2024, arXiv 2410.15035); the task-level granularity of BOOM (2026,
    arXiv 2602.05787).
    """

    def experts(self, datasets: Mapping[str, TrainSet], seed: int, measure: Measure) -> list[Expert]:
        """One expert per task that has train rows, named after the task."""
        del seed, measure
        tasks = dict.fromkeys(dataset.task for dataset in datasets.values())
        return [Expert(str(task), {name: None for name, d in datasets.items() if d.task == task}) for task in tasks]
