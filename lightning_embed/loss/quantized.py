"""`loss=quantized`."""

from dataclasses import dataclass, field, replace
from enum import StrEnum

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from lightning_embed.errors import ConfigError
from lightning_embed.loss.wrapper import Wrapper
from lightning_embed.registry import register
from lightning_embed.types import Embeddings, LossInput, LossOutput

_STEPS = 127  # of int8 on each side of zero: symmetric, so that the code -128 is not used


class Precision(StrEnum):
    """The numbers of an embedding as the loss sees them."""

    float32 = "float32"  # as they are
    int8 = "int8"  # 8 bits: a quarter of the memory
    binary = "binary"  # their signs, 1 bit: a 32nd


@register("loss", "quantized")
@dataclass(frozen=True)
class Quantized(Wrapper):
    """Quantisation-aware training: a wrapped loss of embeddings that are rounded as they will be stored.

        L = sum over p of  w_p loss( Q_p(e) / |Q_p(e)| )
        float32: Q(e) = e
        int8:    Q(e)_k = m/127 round( 127 e_k / m ),  m = max_k |e_k| of the text
        binary:  Q(e)_k = 1/sqrt(dim) if e_k > 0, else -1/sqrt(dim)
        backward: dQ(e)/de = 1, the straight-through estimator

    e are the final embeddings of all texts; those of a middle layer, which nobody stores, are not rounded. Rounding has
    no gradient, so the gradient is that of the wrapped loss at the rounded embedding, taken as if it were the
    embedding's own. The cosine of two binary vectors is 1 - 2 h/dim, with h their Hamming distance. Around `matryoshka`
    or inside it (then each length is cut, normalised and rounded, as an index does it). Logs: the loss at each
    precision, and the logs of the wrapped loss at the first.

    Straight-through: Bengio et al. 2013, arXiv 1308.3432; training of int8 by simulated rounding: Jacob et al. 2018,
    arXiv 1712.05877. Embedding models that are trained so: pplx-embed (Perplexity 2026), int8 and binary. Our reading:
    the scale of int8 is the text's own, so that a text needs no calibration and no other text; rounding is plain
    (`sentence_transformers.quantize_embeddings` divides the range that each dimension has in a corpus); the gradient is
    not clipped, as no entry of a unit vector exceeds 1.

    Args:
        loss: the wrapped loss, or its options with its word as `name`.
        precisions: any of float32, int8, binary, each once.
        weights: one number per precision; empty: 1 each, so that the loss is a sum.

    Raises:
        ConfigError: no precision, one that repeats, a negative weight, or not as many weights as precisions.
    """

    precisions: list[Precision] = field(default_factory=lambda: list(Precision))
    weights: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        words = list(map(str, self.precisions))
        if not words or len(set(words)) < len(words):
            raise ConfigError(f"quantized: expected different precisions, at least one, got {words}. Try [int8].")
        if not all(weight >= 0 for weight in self.weights):
            raise ConfigError(f"quantized: weights must be at least 0, got {self.weights}.")
        if self.weights and len(self.weights) != len(words):
            raise ConfigError(
                f"quantized: weights={self.weights} are {len(self.weights)} numbers for {len(words)} precisions."
                " Give one per precision, or none."
            )

    def __call__(self, batch: LossInput) -> LossOutput:
        """See the class."""
        outputs = [self.inner(self._rounded(batch, precision)) for precision in self.precisions]
        weighted = [w * out.value for w, out in zip(self.weights or [1.0] * len(outputs), outputs, strict=True)]
        logs = {f"loss_{word}": out.value.detach() for word, out in zip(self.precisions, outputs, strict=True)}
        return LossOutput(torch.stack(weighted).sum(), {**outputs[0].logs, **logs})

    @staticmethod
    def _rounded(batch: LossInput, precision: Precision) -> LossInput:
        if precision == Precision.float32:
            return batch
        rounded = normalize(quantize(batch.embeddings.final, precision), dim=1)
        return replace(batch, embeddings=Embeddings(rounded, batch.embeddings.middle))


def quantize(embeddings: Float[Tensor, "texts dim"], precision: Precision) -> Float[Tensor, "texts dim"]:
    """Q of `Quantized` for int8 and binary: rounded, with the gradient of the identity."""
    e = embeddings.detach()
    if precision == Precision.binary:
        rounded = torch.where(e > 0, 1.0, -1.0).to(e) / e.shape[1] ** 0.5
    else:
        step = e.abs().amax(1, keepdim=True).clamp(min=torch.finfo(e.dtype).tiny) / _STEPS
        rounded = (e / step).round() * step
    straight_through: Tensor = rounded + (embeddings - e)  # e - e is exactly 0
    return straight_through
