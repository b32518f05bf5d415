"""`experts=per_dataset`."""

from collections.abc import Mapping
from dataclasses import dataclass

from lightning_embed.experts.base import Expert, ExpertPlan, Measure
from lightning_embed.registry import register
from lightning_embed.types import TrainSet


@register("experts", "per_dataset")
@dataclass(frozen=True)
class PerDataset(ExpertPlan):
    """One expert per dataset, each from the base.

    The dataset-level granularity of BOOM (2026, arXiv 2602.05787).
    """

    def experts(self, datasets: Mapping[str, TrainSet], seed: int, measure: Measure) -> list[Expert]:
        """One expert per dataset with train rows, named after the dataset."""
        del seed, measure
        return [Expert(name, {name: None}) for name in datasets]
