"""merge=wsm."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from lightning_embed.merge import ALL, Combination, Law, Model, Plan, Probe, Reporter
from lightning_embed.registry import register


class Decay(StrEnum):
    """Shapes of the decay that an average stands for: share of the decay that is over -> factor of the rate."""

    linear = "linear"  # 1 - x: the plain mean
    sqrt = "sqrt"  # 1 - sqrt(x)
    cosine = "cosine"  # (1 + cos(pi x)) / 2


_FACTOR: dict[Decay, Callable[[float], float]] = {
    Decay.linear: lambda x: 1 - x,
    Decay.sqrt: lambda x: 1 - math.sqrt(x),
    Decay.cosine: lambda x: (1 + math.cos(math.pi * x)) / 2,
}


@register("merge", "wsm")
@dataclass(frozen=True)
class WSM(Combination):
    """Average of the snapshots of a training with a constant rate, in place of a decay of the rate.

        merged = sum_j c_j source_j,     c_j = f((j - 1) / k) - f(j / k),     f(0) = 1, f(1) = 0

    The updates between snapshots j - 1 and j are in the snapshots from j on, so that they count by f((j - 1) / k): as if
    the rate had decayed by f over the k snapshots, once the gradients are taken as they were. Warm-up, stable and merge:
    Tian et al. (2025), arXiv 2507.17634, second-hand; there it is of a pre-training, with linear, cosine and inverse square
    root. The shape 1 - sqrt is that of Haegele et al. (2024, arXiv 2405.18392). Our reading: the rate begins to fall with
    the first interval, so that the model before it has no weight.

    The sources are the snapshots in their order: `experts.snapshots=6 experts.snapshot_share=0.5 scheduler=wsd
    scheduler.decay_share=0.0`.

    Args:
        decay: shape f of the decay.
    """

    # permutation: the order of the sources is that of the training
    laws = frozenset({Law.copies, Law.single, Law.scale})

    decay: Decay = Decay.linear

    def prepare(self, sources: Sequence[Model], base: Model | None, probe: Probe | None, reporter: Reporter) -> Plan:
        """The share of each source."""
        count, factor = len(sources), _FACTOR[Decay(self.decay)]
        edges = [factor(number / count) for number in range(count)] + [0.0]
        return {"coefficients": {ALL: [before - after for before, after in pairwise(edges)]}}
