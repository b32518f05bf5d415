"""merge=delta_guided."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_embed.errors import ConfigError
from lightning_embed.merge import (
    Combination,
    Cut,
    Law,
    Model,
    Plan,
    Probe,
    Reporter,
    Weighted,
    for_each_parameter,
    groups,
    read_blocks,
    spread,
    summed,
)
from lightning_embed.registry import register


class ElementGranularity(StrEnum):
    """The model, a layer, a tensor, a row of a matrix (a vector is one row), or an element."""

    element = "element"
    row = "row"
    tensor = "tensor"
    layer = "layer"
    model = "model"


@register("merge", "delta_guided")
@dataclass(frozen=True)
class DeltaGuided(Combination, Weighted):
    """Average in which a source counts by the size of its delta, separately in each part of the model.

        d_i = |source_i - base|_p                 over an element, a row, a tensor, a layer or the model
        r_i = d_i^kappa / sum_j d_j^kappa         equal where all d_j are 0
        merged = sum_i w_i s_i source_i / sum_i w_i s_i,     s = r,  or softmax(r / temperature)

    CoDiEmb (2025), arXiv 2508.11442, weights its checkpoints by their deviations from the pre-trained values,
    parameter by parameter, and calls this delta-guided fusion. Its formula is not public; this formula is our reading.
    `kappa=0` is the soup; with `kappa=-1` a larger delta gives a smaller weight.

    Args:
        granularity: element, row, tensor, layer or model.
        p: 1 or 2; equivalent for single elements.
        kappa: any finite number, usually -1 to 2. Below 0, a source with a delta of zero gets all the weight.
        temperature: of the softmax over the ratios r in [0, 1]; above 0, usually 0.1 to 1. A lower temperature gives
            more weight to the largest ratio. None: no softmax.

    Raises:
        ConfigError: a p other than 1 and 2, a kappa that is not finite, a temperature not above 0, or a negative
            weight.
    """

    needs_base = True
    negative = False
    laws = frozenset(Law)

    granularity: ElementGranularity = ElementGranularity.tensor
    p: int = 2
    kappa: float = 1.0
    temperature: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.p not in (1, 2):
            raise ConfigError(f"merge=delta_guided: p={self.p} must be 1 or 2.")
        if not math.isfinite(self.kappa):
            raise ConfigError(f"merge=delta_guided: kappa={self.kappa} must be a finite number.")
        if self.temperature is not None and not self.temperature > 0:
            raise ConfigError(
                f"merge=delta_guided: temperature={self.temperature} must be above 0, or null for no softmax."
            )

    @property
    def cut(self) -> Cut:  # type: ignore[override]
        """Rows are not divided with `granularity=row`."""
        return Cut.row if self.granularity == ElementGranularity.row else Cut.element

    def prepare(self, sources: Sequence[Model], base: Model | None, probe: Probe | None, reporter: Reporter) -> Plan:
        """The shares of the sources in tensors, layers or the model; `merge` computes those of elements and rows."""
        weights = self.source_weights(sources)
        if self.granularity in (ElementGranularity.element, ElementGranularity.row):
            return {"weights": weights}
        names = groups(sources[0].parameters, self.granularity)
        powers = summed(self._powers(sources, base), names)
        found = {group: self._shares(power ** (1 / self.p), weights).tolist() for group, power in powers.items()}
        return {"coefficients": spread(found, names)}

    def merge(
        self,
        name: str,
        tensors: Float[Tensor, " sources *shape"],
        base: Float[Tensor, "*shape"] | None,
        plan: Plan,
        generator: torch.Generator,
    ) -> Float[Tensor, "*shape"]:
        """The weighted sum of the sources, by their shares."""
        if "coefficients" in plan:
            return super().merge(name, tensors, base, plan, generator)
        assert base is not None
        deltas = tensors - base
        shares = self._shares(self._sizes(deltas), plan["weights"])
        merged: Tensor = base + (shares * deltas).sum(0)
        return merged

    def _powers(self, sources: Sequence[Model], base: Model | None) -> dict[str, Float[Tensor, " sources"]]:
        """|delta|_p^p of every parameter, which adds up over the parameters of a part."""

        def powers(name: str) -> Float[Tensor, " sources"]:
            total = torch.zeros(len(sources), dtype=torch.float64)
            for block in read_blocks(name, sources, base):
                total += torch.linalg.vector_norm(block.deltas, self.p, dim=1, dtype=torch.float64) ** self.p
            return total

        return for_each_parameter(sources[0].parameters, powers)

    def _sizes(self, deltas: Float[Tensor, " sources *shape"]) -> Float[Tensor, " sources *parts"]:
        """The sizes of the parts of a block, with the number of dimensions of the block."""
        if self.granularity == ElementGranularity.element or deltas.dim() == 1:
            return deltas.abs()
        within = tuple(range(2 if deltas.dim() > 2 else 1, deltas.dim()))
        sizes: Tensor = torch.linalg.vector_norm(deltas, self.p, dim=within, keepdim=True)
        return sizes

    def _shares(
        self, sizes: Float[Tensor, " sources *parts"], weights: Sequence[float]
    ) -> Float[Tensor, " sources *parts"]:
        """The share of every source, from the sizes of its deltas; the sum over sources is 1."""
        given = sizes.new_tensor(weights).view(-1, *[1] * (sizes.dim() - 1))
        present = (given > 0).flatten()
        shares = torch.zeros_like(sizes)
        ratios = _ratios(sizes[present], self.kappa)
        scores = ratios if self.temperature is None else torch.softmax(ratios / self.temperature, 0)
        scores = given[present] * scores
        shares[present] = scores / scores.sum(0)
        return shares


def _ratios(sizes: Float[Tensor, " sources *parts"], kappa: float) -> Float[Tensor, " sources *parts"]:
    """size^kappa / sum of size^kappa, computed relative to the dominant size to avoid overflow and 0 / 0."""
    most = sizes.amax(0) if kappa >= 0 else sizes.amin(0)
    relative = sizes / most if kappa >= 0 else most / sizes
    powers = torch.where(sizes == most, 1.0, relative) ** abs(kappa)
    return powers / powers.sum(0)
