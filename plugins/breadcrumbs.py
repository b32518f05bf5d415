"""merge=breadcrumbs."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_embed.errors import ConfigError
from lightning_embed.merge import Model, Plan, Probe, Reporter, Sparse, num_kept, thresholds
from lightning_embed.registry import register


@register("merge", "breadcrumbs")
@dataclass(frozen=True)
class Breadcrumbs(Sparse):
    """Drop the largest and the smallest elements of each delta, and average the deltas.

        kept_i  = delta_i where t_i <= |delta_i| <= u_i, else 0
        merged  = base + scale * (sum_i w_i kept_i) / (sum_i w_i)

    In each parameter of each source, u_i drops the share `gamma` of the largest elements as outliers. Of the rest, t_i
    keeps the share `density` of the largest and drops the others as noise. With `combine=ties` the sums run over the i
    whose kept_i has the elected sign, that of sum_i w_i kept_i.

    Davari and Belilovsky (2023), "Model Breadcrumbs", arXiv 2312.06795. The paper scales the sum: its alpha is scale /
    N. A parameter of n elements drops floor(gamma n) and keeps round(density n), at least one. Elements equal in
    magnitude to the last kept element at either end are kept too. MergeKit keeps floor(density n) elements, so that a
    parameter of one element is lost, and takes the sum of the deltas unless `normalize: true` is set.

    It obeys neither `copies` nor `single`: elements are missing.

    Args:
        density: share of each delta that is kept, in (0, 1]; usually 0.1 to 0.9.
        gamma: share of the largest elements that is dropped, from 0 to 1 - density; usually 0.005 to 0.03.
        combine: linear or ties.
        scale: of the mean, usually 0.5 to 1.5.

    Raises:
        ConfigError: a density outside (0, 1]; a gamma below 0, or density + gamma above 1; a negative weight with
            `combine=ties`.
    """

    density: float = 0.9
    gamma: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.gamma >= 0 and self.density + self.gamma <= 1):
            raise ConfigError(
                f"merge=breadcrumbs: gamma must be 0 or more and density + gamma at most 1, "
                f"got density={self.density} and gamma={self.gamma}. Make one of them smaller."
            )

    def prepare(self, sources: Sequence[Model], base: Model | None, probe: Probe | None, reporter: Reporter) -> Plan:
        """The weights, and the largest and smallest kept magnitude of each source in each parameter."""
        weights = super().prepare(sources, base, probe, reporter)
        return {**weights, "thresholds": thresholds(sources, base, self._ranks)}

    def keep(
        self, name: str, deltas: Float[Tensor, " sources *shape"], plan: Plan, generator: torch.Generator
    ) -> Float[Tensor, " sources *shape"]:
        """The elements between the two thresholds."""
        for delta, (largest, smallest) in zip(deltas, plan["thresholds"][name], strict=True):
            delta.mul_(delta.abs().ge_(smallest))
            delta.mul_(delta.abs().le_(largest))
        return deltas

    def _ranks(self, numel: int) -> list[int]:
        dropped = floor(self.gamma * numel)
        return [dropped + 1, min(numel, dropped + num_kept(numel, self.density))]
