"""merge=wudi."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_embed.errors import ConfigError
from lightning_embed.merge import Law, PerMatrix
from lightning_embed.registry import register


@register("merge", "wudi")
@dataclass(frozen=True)
class Wudi(PerMatrix):
    """Gradient descent on the interference of the deltas, from their sum, in each linear layer and without data.

        L(M)   = sum_i |(M - delta_i) delta_i^T|^2 / |delta_i|^2         delta_i (out, in)
        M(t)   : M(0) = sum_i delta_i,   dM/dt = -(1/2) dL/dM = B - M A
        merged = base + scale * M(time)                                 for linear layers
        merged = base + scale * mean_i delta_i                          for everything else

        A = sum_i delta_i^T delta_i / |delta_i|^2,    B = sum_i delta_i delta_i^T delta_i / |delta_i|^2

    The rows of a delta are combinations of the inputs that its training saw, so L bounds how far the outputs of the
    merged layer are from those of each source on its own inputs. The flow has a closed form, a factor per eigenvector of
    A: with A = V diag(a) V^T,   M(t) = (M(0) V diag(exp(-t a)) + B V diag((1 - exp(-t a)) / a)) V^T.

    Cheng et al. (2025), "Whoever started the interference should end it: guiding data-free model merging via task
    vectors", arXiv 2503.08099: WUDI-Merging. Where we differ: the authors take 300 steps of Adam with a learning rate of
    1e-5, which moves elements by up to 3e-3, whatever the size of the deltas; the flow is plain gradient descent with
    infinitely small steps and has no unit, so that deltas twice as long give a result twice as far. Its minimum (an
    infinite time) is their closed form, which they find worse than a descent that stops early: small eigenvalues amplify
    noise. Wei et al. (2026), "Closed-form spectral regularization for multi-task model merging", arXiv 2606.07289, has
    some of the same authors and replaces Adam by such an exponential filter. Our reading: the default time, for which dev
    scores of two MiniLM experts chose (they hardly differ from 10 to 1000); and parameters other than linear layers are
    averaged, where the authors' code leaves those of the base.

    It does not obey `copies`: N copies come down from N deltas towards one, but do not reach it in a finite time.

    Costs: one eigendecomposition per linear layer, columns x columns in float64: 8 s of one core for four MiniLM. Time
    grows with the cube of the columns; memory is about 16 bytes per element and source of the layer, and 32 per square
    of the columns.

    Args:
        time: of the descent, at least 0; usually 10 to 1000. 0 is the sum of the deltas; a longer time means
            less interference, and longer deltas.
        scale: of the merged delta; 1 in the paper.
        max_rows: of a linear layer, at least 1; a matrix with more is the table of a vocabulary.

    Raises:
        ConfigError: a time below 0, or a max_rows below 1.
    """

    laws = frozenset({Law.single, Law.permutation, Law.scale})

    time: float = 30.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.time >= 0:
            raise ConfigError(f"merge=wudi: time={self.time} must be at least 0.")

    def merged_delta(self, deltas: Float[Tensor, "sources rows columns"]) -> Float[Tensor, "rows columns"]:
        """The end of the descent."""
        start, target = deltas.sum(0), torch.zeros_like(deltas[0])
        operator = deltas.new_zeros(deltas.shape[2], deltas.shape[2])
        for delta in deltas:
            norm = torch.linalg.matrix_norm(delta)
            unit = delta / norm if norm > 0 else delta
            gram = unit.T @ unit
            operator += gram
            target += delta @ gram
        values, vectors = torch.linalg.eigh(operator)
        values.clamp_(min=0)
        gain = torch.where(values > 0, -torch.expm1(-self.time * values) / values, self.time)
        return ((start @ vectors) * torch.exp(-self.time * values) + (target @ vectors) * gain) @ vectors.T
