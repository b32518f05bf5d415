"""What models cost, in joint trainings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from omegaconf import DictConfig

from lightning_embed.data import EmbeddingDataModule
from lightning_embed.experts import Expert, ExpertPlan


@dataclass(frozen=True)
class Costs:
    """Rows that were trained on, over those of one training on all data under the same limits.

    A row that a merge looks at counts as a row that is trained on, and a third of that without a gradient. Measuring is
    not counted.

    Args:
        sources: of each source, the experts that it started from included; a model that existed already cost nothing.
        all: of all trainings together.
        joint_rows: rows of the joint training.
    """

    sources: Mapping[str, float]
    all: float
    joint_rows: float

    def merged(self, probe_rows: float) -> float:
        """Of a merge of all sources that looked at so many rows."""
        return self.all + probe_rows / self.joint_rows


def costs(
    cfg: DictConfig,
    plan: ExpertPlan,
    experts: Sequence[Expert],
    modules: Mapping[str, EmbeddingDataModule],
    joint: EmbeddingDataModule,
) -> Costs:
    """The costs of a plan.

    Args:
        cfg: of the run; its `trainer` has the limits.
        plan: says what the sources of an expert are.
        experts: in the order of training.
        modules: the batches of each expert that is trained.
        joint: the batches of a training on everything.
    """
    whole = rows_trained(cfg, joint)
    own = {name: rows_trained(cfg, batches) / whole for name, batches in modules.items()}
    found: dict[str, float] = {}
    for expert in experts:
        before = found.get(expert.start, 0.0)
        names = plan.sources(expert)
        for number, name in enumerate(names, start=1):
            share = min(1.0, number / plan.snapshots)  # snapshots lie at equal distances; an average ends with them
            found[name] = before + share * own.get(expert.name, 0.0)
    return Costs(found, sum(own.values()), whole)


def rows_trained(cfg: DictConfig, batches: EmbeddingDataModule) -> float:
    """Rows that a training goes through, repetitions included."""
    stream = batches.steps()
    rows = sum(count * stream.schedule.batch_rows(stream.feeds[name]) for name, count in stream.num_batches.items())
    return batches.num_steps(cfg.trainer.max_steps, cfg.trainer.max_epochs) * rows / len(stream)
