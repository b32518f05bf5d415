"""`loss=codiemb`."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from lightning_embed.errors import ConfigError
from lightning_embed.loss.base import Loss
from lightning_embed.loss.mid_nce import MidNCE
from lightning_embed.loss.pearson import Pearson
from lightning_embed.loss.pro import PRO
from lightning_embed.loss.rank_kl import RankKL
from lightning_embed.registry import register
from lightning_embed.types import LossInput, LossOutput, Task


@register("loss", "codiemb")
@dataclass(frozen=True)
class CoDiEmb(Loss):
    """CoDiEmb's loss for graded pairs: a weighted sum of four losses.

        L = 1 mid_nce + 2 pearson + 0.5 pro + 5 rank_kl

    Each term is a loss of its own, documented there; its value is logged. A weight of 0 leaves the term out.

    Zhang et al. 2025, arXiv 2508.11442; weights and temperatures are those of its code. Where we differ: pairs of all
    ranks are compared with each other, theirs of one device only (`cross_device=false`). As rank_kl is divided by the
    number of rows, its weight shrinks with more ranks. Pearson has an epsilon.

    Args:
        mid_nce_weight: weight of InfoNCE at the middle layer; in [0, inf).
        pearson_weight: weight of the correlation; in [0, inf).
        pro_weight: weight of the preference ranking; in [0, inf).
        rank_kl_weight: weight of the divergence of ranks; in [0, inf).
        mid_nce_temperature: in (0, inf).
        pro_temperature: in (0, inf).
        rank_kl_temperature: in (0, inf).
        min_score: pairs from this score on are anchors of mid_nce; in [0, 1].
        mask_equal: equal passages are no negatives of mid_nce; CoDiEmb keeps them.
        cross_device: compare the pairs of all ranks.

    Raises:
        ConfigError: a temperature that is not positive, a negative weight, or only weights of 0.
    """

    tasks: ClassVar[frozenset[Task]] = frozenset({Task.sts})

    mid_nce_weight: float = 1.0
    pearson_weight: float = 2.0
    pro_weight: float = 0.5
    rank_kl_weight: float = 5.0
    mid_nce_temperature: float = 0.02
    pro_temperature: float = 0.05
    rank_kl_temperature: float = 0.05
    min_score: float = 1.0
    mask_equal: bool = False
    cross_device: bool = True

    def __post_init__(self) -> None:
        for name, (weight, _) in self._terms().items():
            if not weight >= 0:
                raise ConfigError(f"codiemb: {name}_weight must be at least 0, got {weight}.")
        if not any(weight for weight, _ in self._terms().values()):
            raise ConfigError("codiemb: all weights are 0, so there is nothing to minimise. Give one of them a weight.")

    @property
    def needs_middle(self) -> bool:
        """True if mid_nce has a weight."""
        return self.mid_nce_weight > 0

    def __call__(self, batch: LossInput) -> LossOutput:
        """See the class."""
        terms = {name: term for name, term in self._terms().items() if term[0]}
        values = {name: loss(batch).value for name, (_, loss) in terms.items()}
        value = torch.stack([weight * values[name] for name, (weight, _) in terms.items()]).sum()
        return LossOutput(value, {name: term.detach() for name, term in values.items()})

    def _terms(self) -> dict[str, tuple[float, Loss]]:
        """Weight and loss of each term."""
        return {
            "mid_nce": (self.mid_nce_weight, MidNCE(self.mid_nce_temperature, self.min_score, self.mask_equal)),
            "pearson": (self.pearson_weight, Pearson()),
            "pro": (self.pro_weight, PRO(self.pro_temperature)),
            "rank_kl": (self.rank_kl_weight, RankKL(self.rank_kl_temperature)),
        }
