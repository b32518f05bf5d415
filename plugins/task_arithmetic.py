"""merge=task_arithmetic."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from lightning_embed.merge import ALL, Combination, Law, Model, Plan, Probe, Reporter, Weighted, check_factor
from lightning_embed.registry import register


@register("merge", "task_arithmetic")
@dataclass(frozen=True)
class TaskArithmetic(Combination, Weighted):
    """The base plus the scaled sum of all deltas.

        merged = base + scale * sum_i w_i (source_i - base)

    Ilharco et al. (2023), "Editing models with task arithmetic", arXiv 2212.04089. As in the paper it is a sum: equal
    weights are 1 each and do not shrink with the number of sources (`size` has the same total), and given weights are
    used unchanged, so that a negative weight forgets a task and [1, 1, -1] is an analogy. `scale=1/N` is the soup of N
    sources.

    It obeys neither `copies` nor `single`: at its default scale N copies of a delta give 0.4 N of it.

    Args:
        scale: of the sum, usually 0.3 to 1; 0.4 is the usual value in the literature without tuning.

    Raises:
        ConfigError: a scale outside -100 to 100.
    """

    needs_base = True
    normalise: ClassVar[bool] = False
    laws = frozenset({Law.permutation, Law.scale})

    scale: float = 0.4

    def __post_init__(self) -> None:
        super().__post_init__()
        check_factor("merge=task_arithmetic", "scale", self.scale)

    def prepare(self, sources: Sequence[Model], base: Model | None, probe: Probe | None, reporter: Reporter) -> Plan:
        """The coefficient of each delta."""
        return {"coefficients": {ALL: [self.scale * weight for weight in self.source_weights(sources)]}}
