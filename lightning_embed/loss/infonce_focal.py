"""`loss=infonce_focal`."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_embed.errors import ConfigError
from lightning_embed.loss.infonce import InfoNCE
from lightning_embed.registry import register


@register("loss", "infonce_focal")
@dataclass(frozen=True)
class InfoNCEFocal(InfoNCE):
    """InfoNCE whose pairs count the less, the better the query already finds its document.

        L(i, p) = stop_gradient( (1 - P_ip)^gamma ) * -log P_ip

    P_ip is the softmax of the positive among the candidates, so that -log P_ip is the loss of `infonce`; all else is as
    there. The mean is over the number of pairs, not over their weights. With `symmetric`, both directions are weighted.

    Papers: the focal-style weights of KaLM-Embedding-V2 (Zhao et al. 2025, arXiv 2506.20923), after the focal loss (Lin
    et al. 2017, arXiv 1708.02002). KaLM's training code has no such weight and we know the paper by summaries only: that
    the weight is a constant for the gradient, as that of `infonce_hard`, and the default of gamma are our reading. In the
    focal loss the weight has a gradient, which for gamma below 1 is infinite at P = 1.

    Args:
        temperature: divides the similarities; in (0, inf), typically 0.02 to 0.05.
        in_batch: as in infonce.
        symmetric: as in infonce.
        margin: as in infonce.
        mask_equal: as in infonce.
        min_score: as in infonce.
        cross_device: as in infonce.
        gamma: exponent of the weights; in [0, inf), typically 0.5 to 2. 0: infonce.

    Raises:
        ConfigError: as infonce, or gamma negative.
    """

    gamma: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.gamma >= 0:
            raise ConfigError(f"infonce_focal: gamma must be at least 0, got {self.gamma}. Usual: 0.5 to 2.")

    def _weighted(self, losses: Float[Tensor, "local slots"]) -> Float[Tensor, "local slots"]:
        """The losses, times the weights."""
        missed = -torch.expm1(-losses.detach()).clamp(max=0)  # 1 - P; a loss of 0 may be rounded below it
        return missed**self.gamma * losses
