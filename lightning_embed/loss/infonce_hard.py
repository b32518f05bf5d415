"""`loss=infonce_hard`."""

from dataclasses import dataclass
from enum import StrEnum

from jaxtyping import Float
from torch import Tensor

from lightning_embed.errors import ConfigError
from lightning_embed.loss.infonce import InfoNCE, is_own_row
from lightning_embed.registry import register
from lightning_embed.types import LossInput


class Hardened(StrEnum):
    """Negatives that get a weight: the row's own hard negatives, the documents of other rows, or both."""

    own = "own"
    others = "others"
    all = "all"


@register("loss", "infonce_hard")
@dataclass(frozen=True)
class InfoNCEHard(InfoNCE):
    """InfoNCE whose negatives count the more, the more similar they are to the query.

        w(q, d-) = exp( strength * stop_gradient( s(q, d-) ) )
        L(i, p)  = -log  exp(s(q_i, d+_ip) / t) / [ exp(s(q_i, d+_ip) / t) + sum over d- of w(q_i, d-) exp(s(q_i, d-) / t) ]

    All else is as in `infonce`: s, t, which documents are negatives, slots, masks, and the mean. The weight is a constant
    for the gradient. Negatives that are not `hardened` have weight 1. With `symmetric`, queries have no weight.

    Papers: own: EmbeddingGemma (Schechter Vera et al. 2025, arXiv 2509.20354), strength 5; others: LLaVE (Lan et al.
    2025, arXiv 2503.04812), strength 9. As `hardness_mode` of sentence-transformers: hard_negatives, in_batch_negatives,
    all_negatives. Where we differ: the hard negatives of other rows are negatives too (in sentence-transformers as
    well), and count among the others.

    Args:
        temperature: divides the similarities; in (0, inf), typically 0.02 to 0.05.
        in_batch: as in infonce.
        symmetric: as in infonce.
        margin: as in infonce.
        mask_equal: as in infonce.
        min_score: as in infonce.
        cross_device: as in infonce.
        hardened: the negatives that get a weight: own, others or all.
        strength: of the weights; in [0, inf). 0: infonce.

    Raises:
        ConfigError: as infonce; strength negative, or `hardened=others` without `in_batch`.
    """

    hardened: Hardened = Hardened.own
    strength: float = 5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.strength >= 0:
            raise ConfigError(f"infonce_hard: strength must be at least 0, got {self.strength}. Usual: 5 to 9.")
        if self.hardened == Hardened.others and not self.in_batch:
            raise ConfigError(
                "infonce_hard: hardened=others needs documents of other rows: set in_batch=true, or hardened=own."
            )

    def _in_sum(
        self, logits: Float[Tensor, "local block"], batch: LossInput, negatives: bool, where: slice | None
    ) -> Float[Tensor, "local block"]:
        """Logits plus the logarithm of the weights."""
        if self.hardened == Hardened.own and not negatives:
            return logits
        log_weight = self.strength * (logits * self.temperature).detach()
        if where is None or self.hardened == Hardened.all:
            return logits + log_weight
        own = is_own_row(batch, where, batch.negatives.shape[1] if negatives else 1)
        return logits + log_weight.where(own if self.hardened == Hardened.own else ~own, 0)
