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
    """Trim, elect signs, and average the deltas that have the elected sign.

        trimmed_i = delta_i where |delta_i| >= t_i, else 0;     t_i keeps the `density` largest of each parameter
        sign      = sign(sum_i w_i trimmed_i)
        merged    = base + scale * (sum w_i trimmed_i) / (sum w_i)     over the i whose trimmed_i has that sign

    `combine=linear` elects no sign and averages all trimmed deltas, zeros included.

    Yadav et al. (2023), "TIES-Merging", arXiv 2306.01708. Where we differ: the paper ranks all elements of a model
    together; here every parameter has its own threshold, as in MergeKit, so that every layer keeps elements. A
    parameter keeps round(density * elements), at least one. Weights are not in the paper: they count in the election
    and in the mean. Our reading: a balanced vote elects no sign, so the element stays the base's (MergeKit: the
    positive sign).

    All elements with a magnitude of at least the threshold are kept, so more than `density` is kept where many
    magnitudes are equal, as in bfloat16 sources. (MergeKit chooses among them at random.)

    It obeys neither `copies` nor `single`: a single source is trimmed too.

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
        """The elements with a magnitude of at least the threshold."""
        for delta, threshold in zip(deltas, plan["thresholds"][name], strict=True):
            delta.mul_(delta.abs().ge_(threshold))  # masked_fill_ would take ten times as long
        return deltas
