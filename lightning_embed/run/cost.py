"""Costs of models, in training rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lightning_embed.experts import Expert, ExpertPlan


@dataclass(frozen=True)
class Costs:
    """Rows processed in trainings, repetitions included.

    A row of a merge's probe counts as a training row if its gradient is computed, and as a third of one otherwise. Not
    counted: evaluations (also for the dev scores of greedy_soup), and the trainings that plan experts=per_cluster
    experts.by=loss.

    Args:
        sources: cost of each source, including the experts that it started from; models that existed already cost 0.
        all: cost of all trainings together.
    """

    sources: Mapping[str, float]
    all: float


def costs(plan: ExpertPlan, experts: Sequence[Expert], rows: Mapping[str, float]) -> Costs:
    """The costs of a plan.

    Args:
        plan: names the sources of an expert.
        experts: experts in the order of training.
        rows: rows processed in the training of each expert.
    """
    sources: dict[str, float] = {}
    for expert in experts:
        before = sources.get(expert.start, 0.0)
        for number, name in enumerate(plan.models(expert), start=1):
            sources[name] = before + plan.part_done(expert, number) * rows.get(expert.name, 0.0)
    return Costs(sources, sum(rows.values()))
