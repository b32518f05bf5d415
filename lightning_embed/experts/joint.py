"""`experts=joint`."""

from collections.abc import Mapping
from dataclasses import dataclass

from lightning_embed.experts.base import Expert, ExpertPlan, Measure
from lightning_embed.registry import register
from lightning_embed.types import JOINT, TrainSet


@register("experts", "joint")
@dataclass(frozen=True)
class Joint(ExpertPlan):
    """One expert on all datasets: ordinary multi-task training."""

    def experts(self, datasets: Mapping[str, TrainSet], seed: int, measure: Measure) -> list[Expert]:
        """One expert, named joint."""
        del seed, measure
        return [Expert(JOINT, dict.fromkeys(datasets))]
