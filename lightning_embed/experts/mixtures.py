"""`experts=mixtures`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lightning_embed.errors import ConfigError, nearest
from lightning_embed.experts.base import Expert, ExpertPlan, Measure
from lightning_embed.registry import register
from lightning_embed.types import TrainSet


@register("experts", "mixtures")
@dataclass(frozen=True)
class Mixtures(ExpertPlan):
    """One expert per mixture of the datasets, each from the base.

        share of the steps of dataset d in expert m = w_md / sum_e w_me

    The sources of EmbeddingGemma's soup (Schechter Vera et al. 2025, arXiv 2509.20354), second-hand: fine-tunings on
    mixtures that Bayesian optimisation found, averaged without weights. Our reading: a mixture is shares of steps
    (`sampler=proportional`, whose epochs it makes), and a dataset without a weight is not in it. Weights are options, so
    that a sweep of Optuna searches for them.

    Args:
        mixtures: name of the expert -> weight of each of its datasets, in any unit; 0: not in it. Empty: two, by the number
            of rows and equal.

    Raises:
        ConfigError: a weight that is no number from 0, a mixture without a dataset, or a dataset that does not exist.
    """

    mixtures: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, weights in self.mixtures.items():
            if not isinstance(weights, Mapping):
                raise ConfigError(
                    f"experts.mixtures.{name}: expected weights like {{faq: 3, wiki: 1}}, got {weights!r}."
                )
            for dataset, weight in weights.items():
                if not isinstance(weight, (int, float)) or not weight >= 0:
                    raise ConfigError(f"experts.mixtures.{name}.{dataset} must be a number from 0, got {weight!r}.")
            if not any(weights.values()):
                raise ConfigError(f"experts.mixtures.{name}: expected a weight above 0, got {dict(weights)}.")

    def experts(self, datasets: Mapping[str, TrainSet], seed: int, measure: Measure) -> list[Expert]:
        """One expert per mixture, of its name."""
        del seed, measure
        by_rows = {"by_rows": {name: float(rows.num_rows) for name, rows in datasets.items()}}
        mixtures = self.mixtures or by_rows | {"equal": dict.fromkeys(datasets, 1.0)}
        return [self._expert(name, weights, datasets) for name, weights in mixtures.items()]

    def _expert(self, name: str, weights: Mapping[str, int | float], datasets: Mapping[str, TrainSet]) -> Expert:
        for dataset in weights:
            if dataset not in datasets:
                raise ConfigError(
                    f"experts.mixtures.{name}: no dataset {dataset!r} with train rows. {nearest(dataset, datasets)}"
                )
        shares = {dataset: float(weight) for dataset, weight in weights.items() if weight}
        return Expert(name, dict.fromkeys(shares), options={"sampler": {"name": "proportional", "step_shares": shares}})
