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

_SMALL_SINE = 1e-6  # below it an arc equals a straight line to 12 digits; between opposite vectors it is not defined


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


def arc(
    left_square: Float[Tensor, "*rows"],
    right_square: Float[Tensor, "*rows"],
    product: Float[Tensor, "*rows"],
    share: float | Float[Tensor, "*rows"],
) -> tuple[Float[Tensor, "*rows"], Float[Tensor, "*rows"]]:
    """The coefficients of two vectors U and V for the point at a share of the way along the arc between them.

    sin((1 - share) a) / sin(a) and sin(share a) / sin(a), where a is their angle: the norm is interpolated with the
    direction. At a = 0, for opposite vectors and for zero vectors the arc is replaced by the straight line, with
    coefficients 1 - share and share. The derivative is finite everywhere.

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
    angle = torch.where(straight, 0.0, cosine).acos()  # on the straight line, any angle without infinite values
    left = torch.where(straight, 1 - share, ((1 - share) * angle).sin() / angle.sin())
    return left, torch.where(straight, share, (share * angle).sin() / angle.sin())
