"""Linear combinations of the sources: the result of most merges, which differ in their coefficients."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_embed.merge.blocks.stream import Span, for_each_parameter, spans
from lightning_embed.merge.contract import MergeStrategy, Model, Plan
from lightning_embed.runtime.finite import is_finite

ALL = "*"
"""The key of the coefficients of all parameters without coefficients of their own."""

Coefficients = Mapping[str, Sequence[float]]
"""Name of a parameter, or ALL -> one number per source."""


@dataclass(frozen=True, kw_only=True)
class Combination(MergeStrategy):
    """A strategy that computes a linear combination. Its plan has {"coefficients": {name or "*": [c_1, ..., c_N]}}.

    merged = base + sum_i c_i (source_i - base)     where `uses_deltas`,
    merged = sum_i c_i source_i                     elsewhere.
    """

    @property
    def uses_deltas(self) -> bool:
        """Whether deltas are added to the base; otherwise the sources themselves are added."""
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
    """The coefficients of one parameter."""
    return coefficients[name] if name in coefficients else coefficients[ALL]


def combine(
    tensors: Float[Tensor, " sources *shape"], base: Float[Tensor, "*shape"] | None, coefficients: Sequence[float]
) -> Float[Tensor, "*shape"]:
    """The combination base + sum_i c_i (source_i - base); without a base, sum_i c_i source_i."""
    weights = tensors.new_tensor(coefficients)
    summed: Tensor = torch.tensordot(weights, tensors if base is None else tensors - base, dims=1)
    return summed if base is None else summed.add_(base)


def combined(
    sources: Sequence[Model],
    base: Model | None,
    coefficients: Coefficients,
    into: Mapping[str, Float[Tensor, "..."]] | None = None,
) -> dict[str, Float[Tensor, "..."]]:
    """All parameters of a combination, in memory and in float32, as a strategy that searches passes them to its probe.

    Args:
        sources: models to combine.
        base: model to which the deltas are added; None: the sources themselves are added.
        coefficients: of each parameter.
        into: tensors of an earlier call, which are overwritten.
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
    """The derivative of a loss with respect to the coefficients of each parameter.

    It is <gradient, delta_i>, or <gradient, source_i> without a base. A combination is linear in its coefficients, so
    no graph through N copies of a model is needed. Parameters without a gradient get 0.
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
    """`combine` in one pass over each model and without copies, for searches, which need it at every step."""
    if len(span.views) > span.num_sources:
        torch.mul(span.views[-1].float(), 1 - sum(coefficients), out=out)
    else:
        out.zero_()
    for coefficient, view in zip(coefficients, span.views[: span.num_sources], strict=True):
        out.add_(view, alpha=coefficient)
    if not is_finite(out):
        span.read()  # raises an error with the name of the model
