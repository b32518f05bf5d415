"""`loss=matryoshka`."""

from dataclasses import dataclass, field, replace
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from lightning_embed.errors import ConfigError
from lightning_embed.loss.wrapper import Wrapper
from lightning_embed.registry import register
from lightning_embed.types import Embeddings, LossInput, LossOutput


@register("loss", "matryoshka")
@dataclass(frozen=True)
class Matryoshka(Wrapper):
    """A wrapped loss at several lengths of the embeddings, which users may then truncate.

        L = sum over m of  w_m loss( e[:m] / |e[:m]| )

    e[:m] are the first m dimensions of every embedding, those of the middle layer included. Logs: the loss at each
    length, and the logs of the wrapped loss at the greatest length.

    Kusupati et al. 2022, arXiv 2205.13147; as MatryoshkaLoss in sentence-transformers. BOOM's code (arXiv 2602.05787)
    takes the mean over lengths and does not normalise again: weights of 1/n and `normalize=false`.

    Args:
        loss: the wrapped loss, or its options with its word as `name`.
        dims: lengths, in dimensions, longest first; the first is usually the whole embedding.
        weights: one number per length; empty: 1 each, so that the loss is a sum.
        normalize: divide the cut embeddings by their L2 norm.

    Raises:
        ConfigError: dims not positive and descending, or not as many weights as dims; when called, a length that
            exceeds the embedding's.
    """

    dims: list[int] = field(default_factory=lambda: [384, 192, 96])
    weights: list[float] = field(default_factory=list)
    normalize: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.dims or min(self.dims) < 1 or any(a <= b for a, b in pairwise(self.dims)):
            raise ConfigError(f"matryoshka: dims must be positive and descending, got {self.dims}. Try [384, 192, 96].")
        if not all(weight >= 0 for weight in self.weights):
            raise ConfigError(f"matryoshka: weights must be at least 0, got {self.weights}.")
        if self.weights and len(self.weights) != len(self.dims):
            raise ConfigError(
                f"matryoshka: weights={self.weights} are {len(self.weights)} numbers for {len(self.dims)} dims."
                " Give one per length, or none."
            )

    def __call__(self, batch: LossInput) -> LossOutput:
        """See the class."""
        dim = batch.embeddings.final.shape[1]
        if self.dims[0] > dim:
            raise ConfigError(
                f"matryoshka: dims={self.dims} of embeddings with {dim} dimensions. Use dims up to {dim}."
            )
        outputs = [self.inner(replace(batch, embeddings=self._cut(batch.embeddings, length))) for length in self.dims]
        weighted = [w * out.value for w, out in zip(self.weights or [1.0] * len(outputs), outputs, strict=True)]
        logs = {f"loss_{length}": out.value.detach() for length, out in zip(self.dims, outputs, strict=True)}
        return LossOutput(torch.stack(weighted).sum(), {**outputs[0].logs, **logs})

    def _cut(self, embeddings: Embeddings, length: int) -> Embeddings:
        def cut(layer: Float[Tensor, "texts dim"]) -> Float[Tensor, "texts length"]:
            return normalize(layer[:, :length], dim=1) if self.normalize else layer[:, :length]

        return Embeddings(cut(embeddings.final), None if embeddings.middle is None else cut(embeddings.middle))
