"""merge=karcher."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_embed.errors import ConfigError
from lightning_embed.merge import CLEAR, Law, RowGranularity, Spherical, cosine_matrix, facing, smooth_step
from lightning_embed.registry import register

_MOST_PARTS = 1e4  # coefficients of a unit vector, whose float32 sum has three digits
_SMALL_SINE = 1e-6  # of an angle that equals its sine to 12 digits


@register("merge", "karcher")
@dataclass(frozen=True)
class Karcher(Spherical):
    """Riemannian mean on the sphere: the direction with the least squared angles to the sources, with their mean norm.

        u_i = V_i / |V_i|,    m = argmin_m sum_i w_i angle(m, u_i)^2,    merged = (sum_i w_i |V_i|) m,    sum_i w_i = 1

    computed by descent along great circles, from the normalised mean of the u_i (which is `multislerp`):

        g = sum_i w_i log_m(u_i),      log_m(u) = (a / sin(a)) (u - cos(a) m),  a = angle(m, u)
        m <- exp_m(g) = cos(|g|) m + sin(|g|) g / |g|              until |g| < tolerance

    Every m is a combination of the u_i, and the steps need only inner products. They therefore update coefficients
    instead of models, at no cost.

    Grove and Karcher (1973), "How to conjugate C1-close group actions", Mathematische Zeitschrift 132; Karcher (1977),
    "Riemannian center of mass and mollifier smoothing", Communications on Pure and Applied Mathematics 30. MergeKit's
    operator of this name is `of=weights max_iterations=10 tolerance=1e-5` with equal weights. Where we differ: only
    zero tensors have no direction (in MergeKit all tensors shorter than the tolerance), and where the u_i cancel and
    no mean is defined, the result is the weighted average; it goes over to it smoothly where the mean of the u_i is
    shorter than 0.01, or coefficients of m are above 10^4 together, a mean that rounding has moved out of the
    space of the u_i. A source opposite to m has no effect, because log_m is not defined; its effect falls smoothly
    from an angle of 168 degrees on (`facing`). The result is never longer than the longest V_i.

    `delta` is the default, because the weights of fine-tunes of one base are nearly parallel, and the result for them
    equals `multislerp` (to six digits where deltas are a hundredth as long as the weights).

    Args:
        of: delta (needs the base) or weights.
        granularity: tensor, row, layer or model.
        max_iterations: largest number of steps, at least 1. About five are usual; small tensors with widely spread
            sources need more.
        tolerance: length of the last step, in radians, above 0.

    Raises:
        ConfigError: max_iterations below 1, or a tolerance not above 0.
    """

    laws = frozenset({Law.copies, Law.single, Law.permutation, Law.scale})

    granularity: RowGranularity = RowGranularity.tensor
    max_iterations: int = 100
    tolerance: float = 1e-7

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_iterations < 1 or not self.tolerance > 0:
            raise ConfigError(
                "merge=karcher needs max_iterations of 1 or more and a tolerance above 0, "
                f"got {self.max_iterations} and {self.tolerance}."
            )

    def coefficients(
        self, gram: Float[Tensor, "*rows sources sources"], weights: Sequence[float]
    ) -> Float[Tensor, "*rows sources"]:
        """The Riemannian mean of the unit vectors, scaled to the mean norm."""
        shares = gram.new_tensor(weights)
        norms = gram.diagonal(dim1=-2, dim2=-1).sqrt()
        cosines = cosine_matrix(gram)
        pulls = torch.where(norms > 0, shares, 0.0)
        pulls = pulls / pulls.sum(-1, keepdim=True)
        mean = self._mean(cosines, pulls)
        parts = mean.abs().sum(-1, keepdim=True)
        defined = (smooth_step(_length(pulls, cosines) / CLEAR) * smooth_step(_MOST_PARTS / parts)).nan_to_num(0)
        directed = mean * torch.where(norms > 0, (norms @ shares)[..., None] / norms, 0.0)
        return torch.where(defined > 0, defined * directed, 0.0) + (1 - defined) * shares

    def _mean(
        self, cosines: Float[Tensor, "*rows sources sources"], weights: Float[Tensor, "*rows sources"]
    ) -> Float[Tensor, "*rows sources"]:
        mean = weights / _length(weights, cosines)
        for _ in range(self.max_iterations):
            step = _towards(mean, cosines, weights)
            length = _length(step, cosines)
            moves = length >= self.tolerance
            if not moves.any():
                break
            mean = torch.where(moves, length.cos() * mean + length.sin() * step / length, mean)
            mean = mean / _length(mean, cosines)
        return mean


def _towards(
    mean: Float[Tensor, "*rows sources"],
    cosines: Float[Tensor, "*rows sources sources"],
    weights: Float[Tensor, "*rows sources"],
) -> Float[Tensor, "*rows sources"]:
    """The weighted sum of the logarithms at `mean`."""
    cosine = (cosines @ mean[..., None]).squeeze(-1).clamp(-1, 1)
    angle = cosine.acos()
    bend = torch.where(angle.sin() > _SMALL_SINE, angle / angle.sin(), (cosine > 0).double())
    pulls = weights * bend * facing(cosine)
    return pulls - (pulls * cosine).sum(-1, keepdim=True) * mean


def _length(
    coefficients: Float[Tensor, "*rows sources"], cosines: Float[Tensor, "*rows sources sources"]
) -> Float[Tensor, "*rows 1"]:
    """The norm of a combination of unit vectors."""
    square = torch.einsum("...i,...ij,...j->...", coefficients, cosines, coefficients)
    return square.clamp(min=0).sqrt()[..., None]
