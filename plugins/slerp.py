"""merge=slerp."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_embed.errors import ConfigError
from lightning_embed.merge import ALL, SEVERAL, Combination, Law, Model, Plan, Probe, Reporter, Weighted, gram_matrices
from lightning_embed.registry import register

_SMALL_SINE = 1e-6  # below it the arc is a straight line to 12 digits, or, at opposite vectors, not defined


class Of(StrEnum):
    """delta: source minus base. weights: the source itself."""

    delta = "delta"
    weights = "weights"


class Granularity(StrEnum):
    """model: one angle between whole models. tensor: one for each parameter."""

    model = "model"
    tensor = "tensor"


@register("merge", "slerp")
@dataclass(frozen=True)
class Slerp(Combination, Weighted):
    """Spherical interpolation: along the arc between two vectors, and on from there to the next.

        slerp(U, V, t) = (sin((1 - t) a) U + sin(t a) V) / sin(a),        a = angle(U, V)
        U_1 = V_1,     U_n = slerp(U_(n-1), V_n, w_n / (w_1 + ... + w_n))

    where V_i is the delta, or the weights, of source i. Vectors are not normalised first, so the norms are interpolated
    too. At a = 0, at opposite vectors and at zero vectors it is the straight line, (1 - t) U + t V. Every step is a
    combination of the V_i and every angle follows from their inner products: one pass over the models finds the
    coefficients, a second sums up.

    Shoemake (1985), SIGGRAPH; on task vectors, with one angle for the whole model and applied N - 1 times, a baseline of
    "Self Positioning" (2024), arXiv 2410.15035, eq. 4. Where we differ: as printed there, a larger a_i moves the result
    away from V_i; here a larger weight means more of that source. Our reading: the n-th step takes w_n of the sum
    of the weights so far, so that a small angle gives the weighted average.

    `delta` is the default because it is what the paper does and where there is something to gain: fine-tunes of one
    base are nearly parallel, so the slerp of their weights is their average. It does not obey `permutation`: for three
    sources and more the steps depend on the order.

    Args:
        of: delta (needs the base) or weights.
        granularity: model or tensor (as most tools do).

    Raises:
        ConfigError: a negative weight, which would leave the arc.
    """

    num_sources = SEVERAL
    laws = frozenset({Law.copies, Law.scale})

    of: Of = Of.delta
    granularity: Granularity = Granularity.model

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weights and min(self.weights) < 0:
            raise ConfigError(
                f"merge=slerp: weights={self.weights} has a negative number, and an arc ends at its sources. Use 0 or more."
            )

    @property
    def needs_base(self) -> bool:  # type: ignore[override]
        """Only deltas need it."""
        return self.of == Of.delta

    def prepare(self, sources: Sequence[Model], base: Model | None, probe: Probe | None, reporter: Reporter) -> Plan:  # noqa: ARG002
        """The coefficients of the sources: of each parameter, or of the model."""
        weights = self.source_weights(sources)
        grams = gram_matrices(sources, base if self.of == Of.delta else None)
        if self.granularity == Granularity.model:
            grams = {ALL: torch.stack(list(grams.values())).sum(0)}
        return {"coefficients": {name: slerp_coefficients(gram, weights) for name, gram in grams.items()}}


def slerp_coefficients(gram: Float[Tensor, "sources sources"], weights: Sequence[float]) -> list[float]:
    """The numbers c_i for which sum_i c_i V_i is the slerp of vectors with these inner products."""
    coefficients = torch.zeros_like(gram[0])
    coefficients[0] = 1
    total = weights[0]
    for number, weight in enumerate(weights[1:], start=1):
        total += weight
        keep, take = _arc(_angle(gram, coefficients, number), weight / total if total else 0.0)
        coefficients *= keep
        coefficients[number] = take
    found: list[float] = coefficients.tolist()
    return found


def _angle(gram: Float[Tensor, "sources sources"], coefficients: Float[Tensor, " sources"], number: int) -> float:
    """Between the combination so far and vector `number`; 0 if one of them is zero."""
    norms = math.sqrt(max(0.0, float(coefficients @ gram @ coefficients) * float(gram[number, number])))
    cosine = float(coefficients @ gram[number]) / norms if norms else 1.0
    return math.acos(max(-1.0, min(1.0, cosine)))


def _arc(angle: float, share: float) -> tuple[float, float]:
    if math.sin(angle) < _SMALL_SINE:
        return 1 - share, share
    return math.sin((1 - share) * angle) / math.sin(angle), math.sin(share * angle) / math.sin(angle)
