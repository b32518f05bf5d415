"""`loss=spread_out`."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lightning_embed.errors import ConfigError
from lightning_embed.loss.base import Loss
from lightning_embed.loss.blocks import first_equal
from lightning_embed.loss.wrapper import Wrapper
from lightning_embed.registry import register
from lightning_embed.types import LossInput, LossOutput


@register("loss", "spread_out")
@dataclass(frozen=True)
class SpreadOut(Wrapper):
    """A wrapped loss plus global orthogonal regularisation: unrelated texts shall be orthogonal, as random ones are.

        L = loss + sum over roles of  mean_weight * M1^2 + moment_weight * max(0, M2 - 1 / dim)
        M1 = mean of s(a, b),  M2 = mean of s(a, b)^2   over the pairs of different texts a, b of the role

    The roles are the queries and the first positives (of STS pairs: the first texts and the second texts); s is the dot
    product of L2-normalised embeddings, dim their length. A text that stands in several rows counts once. Exact for all
    pairs without a similarity matrix: the sums are those of the mean and of the dim x dim second moments. `spread` in
    the logs is the term that is added.

    Papers: Zhang et al. 2017, arXiv 1708.06320; EmbeddingGemma (Schechter Vera et al. 2025, arXiv 2509.20354) has M2
    alone (`mean_weight=0`), without 1 / dim and the maximum. As GlobalOrthogonalRegularizationLoss of
    sentence-transformers with aggregation="sum". Where we differ: that one regularises hard negatives too, and counts
    repeated texts as pairs with similarity 1.

    Args:
        loss: the wrapped loss, or its options with its word as `name`.
        mean_weight: of the squared mean; in [0, inf).
        moment_weight: of the second moment; in [0, inf).

    Raises:
        ConfigError: a negative weight, or only weights of 0.
    """

    mean_weight: float = 1.0
    moment_weight: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        weights = self.mean_weight, self.moment_weight
        if not (min(weights) >= 0 and max(weights) > 0):
            raise ConfigError(
                f"spread_out: mean_weight and moment_weight must be at least 0 and one of them positive, got {weights}."
            )

    @property
    def signal(self) -> Loss:
        """That of the wrapped loss."""
        return self.inner.signal

    def __call__(self, batch: LossInput) -> LossOutput:
        """See the class."""
        output = self.inner(batch)
        spread = self._of_role(batch, batch.query) + self._of_role(batch, batch.positives[:, 0])
        return LossOutput(output.value + spread, {**output.logs, "spread": spread.detach()})

    def _of_role(self, batch: LossInput, index: Int[Tensor, " rows"]) -> Float[Tensor, ""]:
        """The regularisation of one text a row."""
        hashes = batch.hashes[index]
        once = first_equal(hashes) == torch.arange(len(hashes), device=hashes.device)
        texts = batch.embeddings.final[index].where(once[:, None], 0)
        own = texts.square().sum(1)  # s(a, a)
        count = once.sum()
        pairs = (count * (count - 1)).clamp(min=1)
        mean = (texts.sum(0).square().sum() - own.sum()) / pairs
        moment = ((texts.T @ texts).square().sum() - own.square().sum()) / pairs
        return self.mean_weight * mean.square() + self.moment_weight * (moment - 1 / texts.shape[1]).clamp(min=0)
