"""merge=fisher."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_embed.merge import STATISTICS, FromStatistics, Law, Model, Plan, Probe, in_memory
from lightning_embed.registry import register


@register("merge", "fisher")
@dataclass(frozen=True)
class Fisher(FromStatistics):
    """Average in which every element of a source is weighted by the sensitivity of the loss to it.

        F_i = mean over batches b of (gradient of loss_b at source_i)^2  elementwise
        merged = sum_i w_i F_i source_i / sum_i w_i F_i                  elementwise; w_i alone where all F_i are 0

    F_i is the diagonal of the Fisher information, an estimate of the curvature of the loss at source i. If the losses
    are axis-aligned paraboloids with curvatures F_i, the result is the minimum of the weighted sum of all losses.

    Matena and Raffel (2021), "Merging models with Fisher-weighted averaging", arXiv 2111.09832; a baseline of
    "Self Positioning" (2024), arXiv 2410.15035. Where we differ: the paper squares the gradients of single examples;
    our losses compare the rows of a batch with each other and have no gradients of single examples, so we square the
    gradients of batches. The paper uses each source's own data: `batches=own`. Elements without a gradient in any batch
    (rare words) are averaged.

    Costs: num_batches gradients per source, the memory of three models, and one float32 model per source on disk, which
    stays beside merge.json. It does not obey `scale`, because gradients do not scale with the deltas.
    """

    laws = frozenset({Law.copies, Law.single, Law.permutation})

    def statistics(self, source: Model, probe: Probe | None) -> Mapping[str, Float[Tensor, "..."]]:
        """Mean squared gradients."""
        assert probe is not None
        parameters, batches = in_memory(source), self.batches_of(source, probe)
        squares = {name: torch.zeros(shape) for name, shape in source.parameters.items()}
        for batch in batches:
            _, gradient = probe.loss_and_gradient(parameters, batch)
            for name, slope in gradient.items():
                slope = slope.float().cpu()
                squares[name].addcmul_(slope, slope, value=1 / len(batches))
        return squares

    def merge(
        self,
        name: str,
        tensors: Float[Tensor, " sources *shape"],
        base: Float[Tensor, "*shape"] | None,
        plan: Plan,
        generator: torch.Generator,
    ) -> Float[Tensor, "*shape"]:
        """The weighted mean, with shares per element."""
        weights = tensors.new_tensor(plan["weights"]).view(-1, *[1] * (tensors.dim() - 1))
        importance = weights * torch.stack(plan[STATISTICS]) if STATISTICS in plan else torch.zeros_like(tensors)
        total = importance.sum(0)
        shares = torch.where(total > 0, importance / total, weights)
        merged: Tensor = (shares * tensors).sum(0)
        return merged
