"""merge=arcee_fusion."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_embed.merge import Block, Cut, Law, MergeStrategy, Model, Plan, Probe, Reporter, thresholds
from lightning_embed.registry import register

_EPSILON = 1e-8  # added to every probability, as in MergeKit
_QUANTILES = (0.25, 0.5, 0.75)
_RANGES = 1.5  # interquartile ranges above the median


@register("merge", "arcee_fusion")
@dataclass(frozen=True)
class ArceeFusion(MergeStrategy):
    """The base, in which the elements that one source changed most, by importance, become the source's.

        importance = |delta| * KL(softmax(source_row) | softmax(base_row)),     delta = source - base
        t          = median(importance) + 1.5 * (q3 - q1)                       of all elements of a parameter
        merged     = base + delta where importance >= t, else base

    where rows run along the last dimension, q1 and q3 are quartiles, and 1e-8 is added to each probability.

    MergeKit's operator of this name: Arcee Fusion (2025),
    https://www.arcee.ai/blog/meet-mergekit-v0-1-arcee-fusion-expanded-model-support-multi-gpu-acceleration; its code is
    the only description. A quantile is the element at floor(q (n - 1)) of the sorted n. Where we differ: quantiles are
    those of all elements, MergeKit's are those of a random million; and importance is computed in float64. The KL
    divergence of a fine-tune is often smaller than the rounding of float32, and its sign is then random in MergeKit (in
    three of ten rows of a MiniLM).

    Vectors and scalars are one row. Where importance is 0 for more than three quarters of a parameter, t is 0 and the
    parameter becomes the source's, as in MergeKit.

    It does not obey `single`, because elements are missing, nor `scale`, because KL does not scale with the deltas.
    """

    needs_base = True
    num_sources: ClassVar[range] = range(1, 2)
    cut = Cut.row
    laws = frozenset({Law.permutation})

    def prepare(self, sources: Sequence[Model], base: Model | None, probe: Probe | None, reporter: Reporter) -> Plan:
        """The smallest importance that counts, for every parameter."""
        found = thresholds(sources, base, _ranks, _importances, Cut.row)
        return {"thresholds": {name: _threshold(*quartiles) for name, (quartiles,) in found.items()}}

    def merge(
        self,
        name: str,
        tensors: Float[Tensor, " sources *shape"],
        base: Float[Tensor, "*shape"] | None,
        plan: Plan,
        generator: torch.Generator,
    ) -> Float[Tensor, "*shape"]:
        """The base plus the important elements of the delta."""
        assert base is not None
        important = _importance(tensors[0], base).ge(plan["thresholds"][name])
        return (tensors[0] - base).mul_(important).add_(base)


def _ranks(numel: int) -> list[int]:
    """The ranks of the quartiles, 1 for the largest element."""
    return [numel - int(quantile * (numel - 1)) for quantile in _QUANTILES]


def _threshold(q1: float, median: float, q3: float) -> float:
    return median + _RANGES * (q3 - q1)


def _importances(block: Block) -> list[Float[Tensor, " elements"]]:
    assert block.base is not None
    return [_importance(block.tensors[0], block.base).flatten()]


def _importance(source: Float[Tensor, "*shape"], base: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """|delta| times the divergence of its row."""
    p, q = (torch.softmax(rows.double(), dim=-1).add_(_EPSILON) for rows in (source, base))
    divergence = (p * (p / q).log_()).sum(dim=-1, keepdim=source.dim() > 0).clamp_(min=0)
    return (source - base).abs().mul_(divergence.float())
