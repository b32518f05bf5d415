"""merge=ties."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_embed.merge import Combine, Model, Plan, Probe, Reporter, Sparse, num_kept, thresholds
from lightning_embed.registry import register


@register("merge", "ties")
@dataclass(frozen=True)
class Ties(Sparse):
    """Trim, elect sign, and take the disjoint mean: where deltas disagree, only the heavier side counts.

        trimmed_i = delta_i where |delta_i| >= t_i, else 0;     t_i keeps the `density` largest of each parameter
        sign      = sign(sum_i w_i trimmed_i)
        merged    = base + scale * (sum w_i trimmed_i) / (sum w_i)     over the i whose trimmed_i has that sign

    `combine=linear` elects nobody and averages all that was trimmed, zeros included.

    Yadav et al. (2023), "TIES-Merging", arXiv 2306.01708. Where we differ: the paper ranks all elements of a model
    together; here every parameter has a threshold of its own, as in MergeKit, so that no layer is trimmed to nothing. A
    parameter keeps round(density * elements), never none. Weights are not in the paper: they count in the election and
    in the mean. Our reading: a balanced vote elects nobody, so the element stays the base's (MergeKit: the positive).

    Everything that reaches the threshold is kept, equal magnitudes alike, so more than `density` stays where many are
    equal: in bfloat16 sources, say. (In MergeKit chance decides which of them stay.)

    It obeys neither `copies` nor `single`: one source comes back trimmed.

    Args:
        density: share of each delta that is kept, in (0, 1]; usually 0.1 to 0.5, 0.2 in the paper.
        combine: ties or linear.
        scale: of the mean, usually 0.8 to 1.6; the paper's lambda.

    Raises:
        ConfigError: a density outside (0, 1]; a negative weight with `combine=ties`.
    """

    density: float = 0.2
    combine: Combine = Combine.ties

    def prepare(self, sources: Sequence[Model], base: Model | None, probe: Probe | None, reporter: Reporter) -> Plan:
        """The weights, and the threshold of each source in each parameter."""
        found = thresholds(sources, base, lambda numel: [num_kept(numel, self.density)])
        smallest = {name: [threshold for (threshold,) in rows] for name, rows in found.items()}
        return {**super().prepare(sources, base, probe, reporter), "thresholds": smallest}

    def keep(
        self, name: str, deltas: Float[Tensor, " sources *shape"], plan: Plan, generator: torch.Generator
    ) -> Float[Tensor, " sources *shape"]:
        """Trim."""
        for delta, threshold in zip(deltas, plan["thresholds"][name], strict=True):
            delta.mul_(delta.abs().ge_(threshold))  # masked_fill_ would take ten times as long
        return deltas
