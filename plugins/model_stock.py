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
    """From the base towards the average of the sources, as far as their deltas agree.

        merged = base + t * mean_i(source_i - base),     t = N c / (1 + (N - 1) c)

    for each parameter, where c is the mean cosine between two deltas. If the sources lie around an unknown best point,
    in directions that have nothing to do with one another, this is the point on the way to their average that is
    nearest to it: t = 1 where all deltas are equal, 0 where they are orthogonal.

    Jang et al. (2024), "Model Stock: all we need is just a few fine-tuned models", arXiv 2403.19522. Our reading: c is
    the mean over all pairs, a zero delta is orthogonal to every other, and c < 0 counts as 0, because beyond a right
    angle the formula leads away from the sources, in the end without bound. MergeKit, which does not stop there, also
    takes the product of two norms for 1e-6 where it is smaller, so that biases that moved little stay the base's; here
    length does not matter.

    Every source counts alike. There is nothing to tune, and `single` is not a question: one delta has no angle.
    """

    needs_base = True
    num_sources = SEVERAL
    laws = frozenset({Law.copies, Law.permutation, Law.scale})

    def prepare(self, sources: Sequence[Model], base: Model | None, probe: Probe | None, reporter: Reporter) -> Plan:
        """The share of each source, which is t / N, for every parameter."""
        grams = gram_matrices(sources, base)
        return {"coefficients": {name: [_ratio(gram) / len(gram)] * len(gram) for name, gram in grams.items()}}


def _ratio(gram: Float[Tensor, "sources sources"]) -> float:
    """How far to go, from the inner products of the deltas."""
    count = len(gram)
    cosines = cosine_matrix(gram)
    cosine = max(0.0, float(cosines.sum() - cosines.trace()) / (count * (count - 1)))
    return count * cosine / (1 + (count - 1) * cosine)
