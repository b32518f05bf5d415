"""merge=dare."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_embed.merge import Law, Plan, Sparse, check_probability, uniform
from lightning_embed.registry import register


@register("merge", "dare")
@dataclass(frozen=True)
class Dare(Sparse):
    """Drop most of each delta at random, rescale the rest, and average the deltas.

        kept_i  = delta_i / density with probability `density`, else 0; element by element
        merged  = base + scale * (sum_i w_i kept_i) / (sum_i w_i)

    With `combine=linear` the sums run over all sources: the mean over seeds is the soup. With `combine=ties` they run
    over those whose kept_i has the elected sign, that of sum_i w_i kept_i.

    Yu et al. (2023), "Language models are super Mario", arXiv 2311.03099. The paper scales the sum of the deltas, with
    lambda = scale / N, or their TIES merge, with lambda = scale. Where we differ from MergeKit: it rescales the kept
    elements to the L1 norm of the delta, which is 1 / density only on average, and keeps a tensor of one element either
    unchanged or not at all; and its dare_linear and dare_ties add the deltas by default, where we average them
    (`normalize: true` is our rule).

    With `ties` the mean runs over the kept elements, as in the paper's code: where n sources agree, it is about
    (1 - (1 - density)^n) / density times as large as without dropping. A smaller `scale` compensates for that.

    It obeys neither `copies` nor `single`, because elements are missing, nor `permutation`, because the choice of the
    dropped elements depends on the position of a source.

    Args:
        density: share that is kept, in (0, 1]; usually 0.1 to 0.7. Kept elements grow by 1 / density, so small
            densities need small deltas.
        combine: linear or ties.
        scale: of the mean, usually 0.5 to 1.5.

    Raises:
        ConfigError: a density below 10^-6 or above 1; a negative weight with `combine=ties`.
    """

    laws = frozenset({Law.scale})

    def __post_init__(self) -> None:
        super().__post_init__()
        check_probability(self.word, "density", self.density)

    def keep(
        self, name: str, deltas: Float[Tensor, " sources *shape"], plan: Plan, generator: torch.Generator
    ) -> Float[Tensor, " sources *shape"]:
        """A random share of the elements, rescaled."""
        drawn = uniform(deltas.shape, generator)
        return deltas.mul_(drawn.lt_(self.density).div_(self.density))
