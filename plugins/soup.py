"""merge=soup."""

from collections.abc import Sequence
from dataclasses import dataclass

from lightning_embed.merge import ALL, Combination, Law, Model, Plan, Probe, Reporter, Weighted
from lightning_embed.registry import register


@register("merge", "soup")
@dataclass(frozen=True)
class Soup(Combination, Weighted):
    """Weighted average of the sources.

        merged = sum_i w_i source_i / sum_i w_i

    Wortsman et al. (2022), "Model soups", arXiv 2203.05482: their uniform soup is `weighting=equal`. The average of the
    deltas on the base is the same model, so no base is needed.
    """

    laws = frozenset({Law.copies, Law.single, Law.permutation, Law.scale})

    def prepare(self, sources: Sequence[Model], base: Model | None, probe: Probe | None, reporter: Reporter) -> Plan:
        """The share of each source."""
        return {"coefficients": {ALL: self.source_weights(sources)}}
