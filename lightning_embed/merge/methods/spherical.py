"""Spherical merges: combinations whose coefficients depend on norms and angles."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_embed.merge.blocks.gram import gram_matrices, gram_matrix
from lightning_embed.merge.contract import Cut, Model, Plan, Probe, Reporter
from lightning_embed.merge.methods.granularity import RowGranularity, groups, spread, summed
from lightning_embed.merge.methods.linear import Combination
from lightning_embed.merge.methods.weighting import Weighted

_SMALL_SINE = 1e-6  # below it an arc equals a straight line to 12 digits
_OBTUSE = -0.978  # cosine of 168 degrees, where the coefficients of an arc reach 4.8
LONGEST = 5.0
"""Length of a point of `along`, in lengths of the longest vector, that is never exceeded."""
CLEAR = 0.01
"""Length of a combination, in lengths of its parts together, below which its direction is mostly rounding.

bfloat16 rounds by 0.004.
"""


class Of(StrEnum):
    """delta: source minus base. weights: the source itself."""

    delta = "delta"
    weights = "weights"


@dataclass(frozen=True, kw_only=True)
class Spherical(Combination, Weighted):
    """A combination whose coefficients depend only on the weights and on the inner products of the vectors.

    One pass over the models therefore computes the inner products, in float64, for any number of steps, and a second
    pass merges. The coefficients of rows are not in the plan; `merge` computes them, because a row is never cut.

    Args:
        of: delta (needs the base) or weights.
        granularity: model, layer, tensor or row: the parts of a model that are one vector each.

    Raises:
        ConfigError: a negative weight, which would leave the part of the sphere between the sources.
    """

    negative: ClassVar[bool] = False

    of: Of = Of.delta
    granularity: RowGranularity = RowGranularity.model

    @property
    def needs_base(self) -> bool:  # type: ignore[override]
        """Deltas need the base, weights do not."""
        return self.of == Of.delta

    @property
    def cut(self) -> Cut:  # type: ignore[override]
        """Rows are not divided with `granularity=row`."""
        return Cut.row if self.granularity == RowGranularity.row else Cut.element

    @abstractmethod
    def coefficients(
        self, gram: Float[Tensor, "*rows sources sources"], weights: Sequence[float]
    ) -> Float[Tensor, "*rows sources"]:
        """The coefficients c_i of the result sum_i c_i V_i.

        Args:
            gram: the inner products <V_i, V_j>, in float64.
            weights: of the sources, with sum 1.
        """

    def prepare(self, sources: Sequence[Model], base: Model | None, probe: Probe | None, reporter: Reporter) -> Plan:  # noqa: ARG002
        """The coefficients of the model or of each parameter; for rows, only the weights."""
        weights = self.source_weights(sources)
        if self.granularity == RowGranularity.row:
            return {"weights": weights}
        grams = gram_matrices(sources, base if self.uses_deltas else None)
        group_of = groups(grams, self.granularity)
        found = {group: self.coefficients(g, weights).tolist() for group, g in summed(grams, group_of).items()}
        return {"coefficients": spread(found, group_of)}

    def merge(
        self,
        name: str,
        tensors: Float[Tensor, " sources *shape"],
        base: Float[Tensor, "*shape"] | None,
        plan: Plan,
        generator: torch.Generator,
    ) -> Float[Tensor, "*shape"]:
        """One weighted sum, or one weighted sum per row."""
        if self.granularity != RowGranularity.row:
            return super().merge(name, tensors, base, plan, generator)
        origin = base if self.uses_deltas else None
        vectors = tensors if origin is None else tensors - origin
        rows = vectors.reshape(len(tensors), tensors.shape[1] if tensors.dim() > 2 else 1, -1)
        found = self.coefficients(gram_matrix(rows.transpose(0, 1)), plan["weights"])
        summed = torch.einsum("rs,sre->re", found.float(), rows).view_as(tensors[0])
        return summed if origin is None else summed + origin


def along(
    gram: Float[Tensor, "*rows sources sources"], shares: Sequence[float | Float[Tensor, "*rows"]]
) -> Float[Tensor, "*rows sources"]:
    """The coefficients of U_N, which is reached along the arcs from V_1 to V_2, from there to V_3, and so on.

        U_1 = V_1,     U_n = arc(U_(n-1), V_n, share_n),     shortened to LONGEST max(|V_1|, ..., |V_n|) where longer

    So |U_N| <= LONGEST max_i |V_i| for any vectors and any shares. Two vectors with a share in [0, 1] never reach the
    bound, see `arc`. For more, |U_n| can grow at every step, because U_(n-1) and V_n differ in length. Where the parts
    of U_(n-1) cancel, so that it is shorter than CLEAR of their lengths together, its direction is lost in rounding:
    the step goes over smoothly into the straight line.

    Args:
        gram: the inner products <V_i, V_j>, in float64.
        shares: of V_2, ..., V_N.
    """
    unit = torch.eye(gram.shape[-1], dtype=gram.dtype)
    point = unit[0].expand(gram.shape[:-1])
    longest, lengths = gram[..., 0, 0], gram.diagonal(dim1=-2, dim2=-1).sqrt()
    for number, share in enumerate(shares, start=1):
        own, products = gram[..., number, number], (gram @ point[..., None]).squeeze(-1)
        square = (products * point).sum(-1)
        curved = _clear(square, (point.abs() * lengths).sum(-1))
        left, right = arc(square, own, products[..., number], share)
        keep, take = curved * left + (1 - curved) * (1 - share), curved * right + (1 - curved) * share
        point = keep[..., None] * point + take[..., None] * unit[number]
        longest = torch.maximum(longest, own)
        point = point * _shortening(torch.einsum("...i,...ij,...j->...", point, gram, point), longest)[..., None]
    return point


def arc(
    left_square: Float[Tensor, "*rows"],
    right_square: Float[Tensor, "*rows"],
    product: Float[Tensor, "*rows"],
    share: float | Float[Tensor, "*rows"],
) -> tuple[Float[Tensor, "*rows"], Float[Tensor, "*rows"]]:
    """The coefficients of two vectors U and V for the point at a share of the way along the arc between them.

        (sin((1 - share) a), sin(share a)) / sin(a),   a = angle(U, V)

    The norm is interpolated with the direction. At a = 0 and for zero vectors the arc is replaced by the straight line,
    with coefficients 1 - share and share. Between opposite vectors no arc is defined, near them its direction is that
    of their rounding errors, and its coefficients are as large as 1 / sin(a). Our reading: from 168 degrees on, the arc
    goes over into the straight line, f arc + (1 - f) line, where f = `facing` is 1 at 168 and 0 at 180 degrees. The
    point is therefore a continuous function of U and V, and its derivative is finite everywhere. Up to 168 degrees
    nothing is changed.

    For a share in [0, 1] the point is at most 5 max(|U|, |V|) long. Proof: let |U| <= |V| = 1 (else exchange them) and
    u = U / |U|. An arc between unit vectors has the length 1, so |c U + d V| = ||U| (c u + d V) + (1 - |U|) d V|
    <= |U| + (1 - |U|) d, at most 1 or d, and d is at most 1 (a <= 90 degrees) or 1 / sin(a). Up to 168 degrees that is
    4.8; beyond, with y = (1 + cos(a)) / 0.022, at most 4.8 y^1.5 (3 - 2 y) + 1 - f <= 4.95. The line is never longer
    than 1.

    Args:
        left_square: |U|^2, in float64.
        right_square: |V|^2.
        product: <U, V>.
        share: 0 is U, 1 is V.
    """
    squares = left_square.clamp(min=0) * right_square
    none = squares <= 0
    cosine = torch.where(none, 1.0, product / torch.where(none, 1.0, squares).sqrt())
    straight = 1 - cosine.abs() < _SMALL_SINE**2 / 2
    cosine = torch.where(straight, 0.0, cosine)  # on the straight line, any angle without infinite values
    angle, curved = cosine.acos(), torch.where(straight, 0.0, facing(cosine))
    left, right = ((1 - share) * angle).sin() / angle.sin(), (share * angle).sin() / angle.sin()
    return curved * left + (1 - curved) * (1 - share), curved * right + (1 - curved) * share


def facing(cosine: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The share of the arc between two vectors: 1 up to 168 degrees, falling smoothly to 0 between opposite vectors."""
    return smooth_step((1 + cosine) / (1 + _OBTUSE))


def smooth_step(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """0 below 0, 1 above 1, and 3 x^2 - 2 x^3 between them."""
    inside = x.clamp(0, 1)
    return inside * inside * (3 - 2 * inside)


def _clear(square: Float[Tensor, "*rows"], parts: Float[Tensor, "*rows"]) -> Float[Tensor, "*rows"]:
    """1 for a combination with a clear direction, 0 for one that is lost in the rounding of its parts."""
    none = square <= 0
    length = torch.where(none, 1.0, square).sqrt()
    return torch.where(none, 0.0, smooth_step(length / torch.where(none, 1.0, CLEAR * parts)))


def _shortening(square: Float[Tensor, "*rows"], longest: Float[Tensor, "*rows"]) -> Float[Tensor, "*rows"]:
    """The factor that shortens a vector to LONGEST times the longest one; 1 for shorter ones."""
    most = LONGEST**2 * longest
    longer = square > most
    return torch.where(longer, (most / torch.where(longer, square, 1.0)).sqrt(), 1.0)
