"""merge=della."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lightning_embed.errors import ConfigError
from lightning_embed.merge import Combine, Cut, Law, Plan, Sparse, check_probability, uniform
from lightning_embed.registry import register


@register("merge", "della")
@dataclass(frozen=True)
class Della(Sparse):
    """Drop elements at random, small ones more often than large ones; rescale; elect signs and average.

        p_j      = density - epsilon + 2 epsilon (r_j - 1) / (m - 1),    r_j: rank of |delta_j| among the m of its row
        kept_j   = delta_j / p_j with probability p_j, else 0
        merged   = base + scale * (sum w_i kept_i) / (sum w_i)           over the i whose kept_i has the elected sign

    for each source; the sign is that of sum_i w_i kept_i. `combine=linear` elects no sign and averages all deltas,
    zeros included: its mean over seeds is the soup. A row holds the weights of one output of a matrix; a vector is one
    row. A row of one element is kept with probability `density`. Ranks are exact; of equal magnitudes, the later in
    the row has the higher rank.

    Deep et al. (2024), "DELLA-Merging", arXiv 2406.11617. Where we differ: `epsilon` is half of the range of the p_j,
    as in MergeKit; in the paper it is the whole range. We follow the paper where MergeKit does not: MergeKit rescales
    the kept elements to the L1 norm of the delta instead of each element by its own p_j, ranks convolutions along one
    dimension, and gives NaN for rows of one element. Its della is `combine=ties`, its della_linear with normalize is
    `combine=linear`.

    The mean runs over the kept elements, as in the paper: where n sources agree, it is about (1 - (1 - p)^n) / p times
    as large as without dropping, nearly twice for three sources at 0.5. A smaller `scale` compensates for that.

    It obeys neither `copies` nor `single`, because elements are missing, nor `permutation`, because the choice of the
    dropped elements depends on the position of a source.

    Args:
        density: mean share that is kept, in (0, 1]; usually 0.3 to 0.7.
        epsilon: largest distance of the p_j from `density`, usually 0.05 to 0.2; 0 is `dare`.
        combine: ties or linear.
        scale: of the mean, usually 0.5 to 1.4; the paper's lambda.

    Raises:
        ConfigError: a density outside (0, 1]; an epsilon for which some p_j is below 10^-6 or above 1; a negative weight
            with `combine=ties`.
    """

    cut = Cut.row
    laws = frozenset({Law.scale})

    epsilon: float = 0.15
    combine: Combine = Combine.ties

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (0 <= self.epsilon < self.density and self.density + self.epsilon <= 1):
            raise ConfigError(
                "merge=della: probabilities from density - epsilon to density + epsilon must be above 0 and at most 1, "
                f"got density={self.density} and epsilon={self.epsilon}. Make epsilon smaller."
            )
        check_probability(self.word, "density - epsilon", self.density - self.epsilon)

    def keep(
        self, name: str, deltas: Float[Tensor, " sources *shape"], plan: Plan, generator: torch.Generator
    ) -> Float[Tensor, " sources *shape"]:
        """A random share of the elements, more of the large ones, rescaled."""
        probabilities = torch.stack([self._probabilities(delta) for delta in deltas])
        kept = uniform(deltas.shape, generator).lt_(probabilities)
        return deltas.mul_(kept.div_(probabilities))

    def _probabilities(self, delta: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The probability of keeping each element."""
        rows = delta.flatten(1) if delta.dim() > 1 else delta.reshape(1, -1)
        length = rows.shape[1]
        spread = torch.linspace(-1, 1, length) if length > 1 else torch.zeros(1)
        ladder = (self.density + self.epsilon * spread).expand_as(rows)
        return torch.empty_like(rows).scatter_(1, _ascending(rows.abs()), ladder).view_as(delta)


def _ascending(magnitudes: Float[Tensor, "rows elements"]) -> Int[Tensor, "rows elements"]:
    """The positions of the elements of each row, from the smallest to the largest element.

    Read as integers, the bits of magnitudes have the order of the magnitudes. A key holds these bits above the
    position, so that sorting the keys sorts the positions: three times as fast as torch, with a defined order of equal
    magnitudes.
    """
    keys = magnitudes.numpy().view(np.int32).astype(np.int64)
    keys <<= 32
    keys |= np.arange(keys.shape[1])
    keys.sort(axis=1)
    keys &= 0xFFFF_FFFF
    return torch.from_numpy(keys)
