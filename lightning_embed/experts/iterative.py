"""`experts=iterative`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from lightning_embed.errors import ConfigError
from lightning_embed.experts.base import Expert, ExpertPlan, Measure
from lightning_embed.registry import register
from lightning_embed.types import BASE, TrainSet


class By(StrEnum):
    """One expert per task, or one per dataset."""

    task = "task"
    dataset = "dataset"


@register("experts", "iterative")
@dataclass(frozen=True)
class Iterative(ExpertPlan):
    """One expert per task or dataset, each starting from the one before; all are sources.

        M_0 = base,     M_k = M_(k-1) trained on D_k

    The "Iterative" pipeline of Self Positioning (2024, arXiv 2410.15035). Our reading: a merge takes every delta
    relative to the base, not to the expert before; the optimiser and its schedule are new for each expert.

    Args:
        by: task or dataset.
        order: all tasks, or datasets, in order of training; empty: the order of the config.

    Raises:
        ConfigError: `order` does not name each task or dataset of the run exactly once.
    """

    by: By = By.task
    order: list[str] = field(default_factory=list)

    def experts(self, datasets: Mapping[str, TrainSet], seed: int, measure: Measure) -> list[Expert]:
        """One expert per part, named by place and part: 1_retrieval, 2_sts."""
        del seed, measure
        parts: dict[str, list[str]] = {}
        for name, dataset in datasets.items():
            parts.setdefault(str(dataset.task) if self.by == By.task else name, []).append(name)
        if self.order and sorted(self.order) != sorted(parts):
            raise ConfigError(
                f"experts.order must name each {self.by} exactly once, in any order, of {', '.join(parts)}; "
                f"got {', '.join(self.order)}."
            )
        experts: list[Expert] = []
        for place, part in enumerate(self.order or parts, start=1):
            start = experts[-1].name if experts else BASE
            experts.append(Expert(f"{place}_{part}", dict.fromkeys(parts[part]), start))
        return experts
