"""Datasets as plans see them, and measures of them."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from lightning_embed.experts import ExpertPlan
from lightning_embed.types import Task, TrainSet

SETS = {
    "squad": TrainSet(Task.retrieval, 100, 4),
    "stsb": TrainSet(Task.sts, 10, 4),
    "nq": TrainSet(Task.retrieval, 50, 4),
}


class NoMeasure:
    """For plans that look at nothing."""

    def embeddings(self):
        raise AssertionError

    def losses(self):
        raise AssertionError


@dataclass
class ToyMeasure:
    """Answers that are given."""

    means: Mapping[str, Tensor]
    matrix: Mapping[str, Mapping[str, float]]

    def embeddings(self):
        return self.means

    def losses(self):
        return self.matrix


def names_of(plan: ExpertPlan) -> dict[str, list[str]]:
    """Expert -> the datasets that it trains on."""
    return {expert.name: list(expert.rows) for expert in plan.experts(SETS, 0, NoMeasure())}
