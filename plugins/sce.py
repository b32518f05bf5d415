"""merge=sce."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_embed.merge import (
    Law,
    MergeStrategy,
    Model,
    Plan,
    Probe,
    Reporter,
    check_density,
    disjoint_mean,
    elected,
    for_each_parameter,
    num_kept,
    read_blocks,
    thresholds,
)
from lightning_embed.registry import register


@register("merge", "sce")
@dataclass(frozen=True)
class Sce(MergeStrategy):
    """Select, calculate, erase: the elements with the largest variance over the sources, weighted by squared norms.

        selected_i = delta_i where var_i(delta_i) >= v, else 0;   v selects the `density` largest of each parameter
        q_i        = |selected_i|^2 / sum_i |selected_i|^2        one number per source and parameter
        merged     = base + (sum q_i selected_i) / (sum q_i)      over the i with the sign of sum_i selected_i

    Wan et al. (2024), "FuseChat", arXiv 2408.07990. As in MergeKit, the q_i of the elected sources are divided by
    their sum, and the election is unweighted. All elements with a variance of at least v are selected, so nothing is
    lost if the sources are equal. Our reading: `density` is a share of all elements, at least one of them, and a
    balanced vote elects no sign. MergeKit's select_topk is a share of the elements with a variance above 0, so that
    one source, copies of one source, or a parameter of one element give the base. It also uses equal weights if the
    mean squares of the sources have a sum below 1e-6, which is usual for fine-tunes; here norms do not matter.

    Args:
        density: share of the elements that is selected, in (0, 1]; usually 0.1 to 1.

    Raises:
        ConfigError: a density outside (0, 1].
    """

    needs_base = True
    laws = frozenset(Law)

    density: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_density(self.word, self.density)

    def prepare(self, sources: Sequence[Model], base: Model | None, probe: Probe | None, reporter: Reporter) -> Plan:
        """The smallest selected variance v and the q_i of every parameter."""
        found = thresholds(
            sources, base, lambda numel: [num_kept(numel, self.density)], lambda block: [_variance(block.tensors)]
        )
        smallest = {name: rows[0][0] for name, rows in found.items()}

        def shares(name: str) -> list[float]:
            squares = torch.zeros(len(sources), dtype=torch.float64)
            for block in read_blocks(name, sources, base):
                squares += _selected(block.tensors, block.deltas, smallest[name]).square_().sum(1).double()
            return torch.where(squares.any(), squares / squares.sum(), 1 / len(sources)).tolist()

        return {"thresholds": smallest, "coefficients": for_each_parameter(sources[0].parameters, shares)}

    def merge(
        self,
        name: str,
        tensors: Float[Tensor, " sources *shape"],
        base: Float[Tensor, "*shape"] | None,
        plan: Plan,
        generator: torch.Generator,
    ) -> Float[Tensor, "*shape"]:
        """The base plus the weighted mean of the selected deltas with the elected sign."""
        assert base is not None
        selected = _selected(tensors, tensors - base, plan["thresholds"][name])
        chosen = elected(selected, tensors.new_ones(len(tensors)))
        return disjoint_mean(selected, chosen, tensors.new_tensor(plan["coefficients"][name])).add_(base)


def _variance(tensors: Float[Tensor, " sources *shape"]) -> Float[Tensor, "*shape"]:
    """The variance over the sources, computed from the differences to the first: exactly 0 for equal sources."""
    spread = tensors - tensors[0]
    return spread.sub_(spread.mean(0)).square_().mean(0)


def _selected(
    tensors: Float[Tensor, " sources *shape"], deltas: Float[Tensor, " sources *shape"], smallest: float
) -> Float[Tensor, " sources *shape"]:
    """The deltas with a variance of at least `smallest`, zeros elsewhere. Overwrites `deltas`."""
    return deltas.mul_(_variance(tensors).ge_(smallest))
