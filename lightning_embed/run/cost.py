"""Costs of models, in rows that were trained on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lightning_embed.experts import Expert, ExpertPlan


@dataclass(frozen=True)
class Costs:
    """Rows that trainings go through, repetitions included.

    A row that a merge looks at with a gradient counts as one that is trained on; without, as a third. Not counted:
    measuring (greedy_soup's dev scores too), and the trainings by which experts=per_cluster experts.by=loss plans.

    Args:
        sources: of each source, with the experts that it started from; a model that existed already cost nothing now.
        all: of all trainings together.
    """

    sources: Mapping[str, float]
    all: float


def costs(plan: ExpertPlan, experts: Sequence[Expert], rows: Mapping[str, float]) -> Costs:
    """The costs of a plan.

    Args:
        plan: says what the sources of an expert are.
        experts: in the order of training.
        rows: that the training of each expert goes through.
    """
    found: dict[str, float] = {}
    for expert in experts:
        before = found.get(expert.start, 0.0)
        for number, name in enumerate(plan.sources(expert), start=1):
            share = min(1.0, number / plan.snapshots)  # snapshots lie at equal distances; an average ends with them
            found[name] = before + share * rows.get(expert.name, 0.0)
    return Costs(found, sum(rows.values()))
