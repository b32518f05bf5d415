"""merge=model_stock."""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from lightning_embed.merge import SEVERAL, Combination, Law, Model, Plan, Probe, Reporter, cosine_matrix, gram_matrices
from lightning_embed.registry import register


@register("merge", "model_stock")
@dataclass(frozen=True)
class ModelStock(Combination):
    """A point between the base and the average of the sources, nearer to the average if the deltas are more parallel.

        merged = base + t * mean_i(source_i - base),     t = N c / (1 + (N - 1) c)

    for each parameter, where c is the mean cosine between two deltas. If the sources lie around an unknown optimum in
    independent directions, this is the point nearest to the optimum on the line from the base to their average: t = 1
    for equal deltas, 0 for orthogonal ones.

    Jang et al. (2024), "Model Stock: all we need is just a few fine-tuned models", arXiv 2403.19522. Our reading: c is
    the mean over all pairs, a zero delta is orthogonal to every other delta, and c < 0 is replaced by 0, because
    beyond a right angle the formula leads away from the sources, without bound. MergeKit does not limit c, and
    replaces products of two norms below 1e-6 by 1e-6, so that biases with small deltas stay the base's; here norms do
    not matter.

    All sources have equal weights, and the strategy has no options of its own. `single` does not apply: one delta has
    no angle.
    """

    needs_base = True
    num_sources = SEVERAL
    laws = frozenset({Law.copies, Law.permutation, Law.scale})

    def prepare(self, sources: Sequence[Model], base: Model | None, probe: Probe | None, reporter: Reporter) -> Plan:
        """The share of each source, which is t / N, for every parameter."""
        grams = gram_matrices(sources, base)
        return {"coefficients": {name: [_ratio(gram) / len(gram)] * len(gram) for name, gram in grams.items()}}


def _ratio(gram: Float[Tensor, "sources sources"]) -> float:
    """The ratio t, from the inner products of the deltas."""
    count = len(gram)
    cosines = cosine_matrix(gram)
    cosine = max(0.0, float(cosines.sum() - cosines.trace()) / (count * (count - 1)))
    return count * cosine / (1 + (count - 1) * cosine)
