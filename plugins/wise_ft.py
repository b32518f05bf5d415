"""merge=wise_ft."""

from collections.abc import Sequence
from dataclasses import dataclass

from lightning_embed.errors import ConfigError
from lightning_embed.merge import ALL, Combination, Law, Model, Plan, Probe, Reporter, Weighted
from lightning_embed.registry import register


@register("merge", "wise_ft")
@dataclass(frozen=True)
class WiseFt(Combination, Weighted):
    """A point between the base and the weighted average of the sources.

        merged = (1 - share) base + share * sum_i w_i source_i / sum_i w_i

    Wortsman et al. (2021), "Robust fine-tuning of zero-shot models", arXiv 2109.01903: fine-tuning loses abilities of
    the base on other data; halfway back to the base, much of them returns, and little of the new task is lost. Where
    we differ: the paper has one fine-tune, we have the average of several. `share=1` is the soup.

    It obeys neither `copies` nor `single`: its default share leads halfway to the average.

    Args:
        share: of the way from the base, in [0, 1]; 0.5 without tuning.

    Raises:
        ConfigError: a share outside [0, 1].
    """

    needs_base = True
    laws = frozenset({Law.permutation, Law.scale})

    share: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.share <= 1:
            raise ConfigError(
                f"merge=wise_ft: share={self.share} is not between the base, 0, and the sources, 1. "
                "To go beyond, use merge=task_arithmetic."
            )

    def prepare(self, sources: Sequence[Model], base: Model | None, probe: Probe | None, reporter: Reporter) -> Plan:
        """The coefficient of each delta."""
        return {"coefficients": {ALL: [self.share * weight for weight in self.source_weights(sources)]}}
