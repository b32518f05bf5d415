"""`experts=joint`."""

from collections.abc import Mapping
from dataclasses import dataclass

from lightning_embed.experts.base import Expert, ExpertPlan, TrainSet
from lightning_embed.registry import register


@register("experts", "joint")
@dataclass(frozen=True)
class Joint(ExpertPlan):
    """One expert on all datasets: ordinary multi-task training.

    Args:
        only: see `ExpertPlan`.
    """

    def experts(self, datasets: Mapping[str, TrainSet]) -> list[Expert]:
        """One expert, named joint."""
        return [Expert("joint", dict.fromkeys(datasets))]
