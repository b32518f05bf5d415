"""merge=adamerging."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_embed.merge import Law, Learned, Numbers, TensorGranularity, check_factor
from lightning_embed.registry import register


@register("merge", "adamerging")
@dataclass(frozen=True)
class AdaMerging(Learned):
    """Task arithmetic with a learnt coefficient for every layer and source.

        merged^l = base^l + sum_i c_i^l (source_i - base)^l
        c = argmin  mean over the probe of loss(merged)

    where l is a layer (or a tensor, or the model); Adam starts from c = scale (see `Learned`).

    Yang et al. (2023), "AdaMerging: Adaptive model merging for multi-task learning", arXiv 2310.02575: coefficients
    for each task, or each layer and task, from 0.3, with a learning rate of 1e-3. Where we differ: the paper minimises
    the entropy of a classifier's predictions on unlabelled test data, which an embedding model does not have; we
    minimise the losses of the tasks on training data. Our coefficients are not bounded. In the paper's code a layer is
    a tensor, here `granularity=tensor`; our layers are the numbered ones.

    It obeys none of `copies`, `single` and `scale`: the scale is learnt, and the probe does not scale with the deltas.

    Args:
        scale: coefficient of all deltas at the start, as in `task_arithmetic`; usually 0.3, or 1/N for the soup.

    Raises:
        ConfigError: a scale outside -100 to 100.
    """

    laws = frozenset({Law.permutation})

    granularity: TensorGranularity = TensorGranularity.layer
    learning_rate: float = 1e-3
    steps: int = 500
    scale: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_factor("merge=adamerging", "scale", self.scale)

    def start(self, num_groups: int, num_sources: int) -> dict[str, Float[Tensor, "..."]]:
        """The coefficient `scale` for all groups and sources."""
        return {"c": torch.full((num_groups, num_sources), self.scale, dtype=torch.float64)}

    def coefficients(
        self,
        numbers: Numbers,
        grams: Float[Tensor, "groups sources sources"],
    ) -> Float[Tensor, "groups sources"]:
        """The learnt numbers themselves."""
        return numbers["c"]
