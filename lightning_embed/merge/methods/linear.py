"""Linear combinations of the sources: most merges are one, whatever finds the coefficients."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_embed.merge.blocks.stream import Span, for_each_parameter, is_finite, spans
from lightning_embed.merge.contract import MergeStrategy, Model, Plan

ALL = "*"
"""The key of the coefficients that all parameters have which are not named."""

Coefficients = Mapping[str, Sequence[float]]
"""Name of a parameter, or ALL -> one number per source."""


@dataclass(frozen=True, kw_only=True)
class Combination(MergeStrategy):
    """A strategy that adds up the sources. Its plan has {"coefficients": {name or "*": [c_1, ..., c_N]}}.

    merged = base + sum_i c_i (source_i - base)     where `uses_deltas`,
    merged = sum_i c_i source_i                     elsewhere.
    """

    @property
    def uses_deltas(self) -> bool:
        """Whether deltas are added to the base, or sources to nothing."""
        return self.needs_base

    def merge(
        self,
        name: str,
        tensors: Float[Tensor, " sources *shape"],
        base: Float[Tensor, "*shape"] | None,
        plan: Plan,
        generator: torch.Generator,  # noqa: ARG002
    ) -> Float[Tensor, "*shape"]:
        """One weighted sum."""
        return combine(tensors, base if self.uses_deltas else None, coefficients_of(plan["coefficients"], name))


def coefficients_of(coefficients: Coefficients, name: str) -> Sequence[float]:
    """Those of one parameter."""
    return coefficients[name] if name in coefficients else coefficients[ALL]


def combine(
    tensors: Float[Tensor, " sources *shape"], base: Float[Tensor, "*shape"] | None, coefficients: Sequence[float]
) -> Float[Tensor, "*shape"]:
    """With a base, base + sum_i c_i (source_i - base); without, sum_i c_i source_i."""
    weights = tensors.new_tensor(coefficients)
    summed: Tensor = torch.tensordot(weights, tensors if base is None else tensors - base, dims=1)
    return summed if base is None else summed.add_(base)


def combined(
    sources: Sequence[Model],
    base: Model | None,
    coefficients: Coefficients,
    into: Mapping[str, Float[Tensor, "..."]] | None = None,
) -> dict[str, Float[Tensor, "..."]]:
    """All parameters of a combination, in memory and in float32: what a strategy that searches gives its probe.

    Args:
        sources: what to add up.
        base: what deltas are added to; None: sources are added up as they are.
        coefficients: of each parameter.
        into: tensors of an earlier call, to be written over.
    """

    def fill(name: str) -> Float[Tensor, "..."]:
        tensor = torch.empty(sources[0].parameters[name]) if into is None else into[name]
        flat, start = tensor.view(-1), 0
        for span in spans(name, sources, base):
            end = start + span.views[0].numel()
            _combine_into(flat[start:end], span, coefficients_of(coefficients, name))
            start = end
        return tensor

    return for_each_parameter(sources[0].parameters, fill)


def inner_products(
    gradient: Mapping[str, Float[Tensor, "..."]], sources: Sequence[Model], base: Model | None
) -> dict[str, Float[Tensor, " sources"]]:
    """The derivative of a loss by the coefficients of each parameter: <gradient, delta_i>, or <gradient, source_i>.

    No graph through N copies of a model is needed: a combination is linear in its coefficients. Parameters without a
    gradient get 0.
    """

    def products(name: str) -> Float[Tensor, " sources"]:
        total, start = torch.zeros(len(sources), dtype=torch.float64), 0
        if name in gradient:
            flat = gradient[name].reshape(-1).cpu()
            for span in spans(name, sources, base):
                end = start + span.views[0].numel()
                total += torch.stack([delta @ flat[start:end] for delta in span.deltas()])
                start = end
        return total

    return for_each_parameter(sources[0].parameters, products)


def _combine_into(out: Float[Tensor, " elements"], span: Span, coefficients: Sequence[float]) -> None:
    """`combine` in one pass over each model and without copies, because a search does it at every step."""
    if len(span.views) > span.num_sources:
        torch.mul(span.views[-1].float(), 1 - sum(coefficients), out=out)
    else:
        out.zero_()
    for coefficient, view in zip(coefficients, span.views[: span.num_sources], strict=True):
        out.add_(view, alpha=coefficient)
    if not is_finite(out):
        span.read()  # says which model has NaN in it
