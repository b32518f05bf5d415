"""merge=lm_cocktail."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_embed.errors import ConfigError
from lightning_embed.merge import ALL, Combination, Law, Model, Plan, Probe, Reporter, combined
from lightning_embed.registry import register


@register("merge", "lm_cocktail")
@dataclass(frozen=True)
class LmCocktail(Combination):
    """Weighted average in which a model with a lower loss on a few examples gets a larger weight.

        merged = sum_i w_i model_i,        w = softmax(-loss_i / temperature)

    over the sources and the base; loss_i is the mean over the first batches of the probe.

    Xiao et al. (2023), "LM-Cocktail", arXiv 2311.13534. As in the paper, the base is a candidate, because it has the
    general abilities. Where we differ: the paper's examples are of one target task, and the mix can then be averaged
    with a model trained for that task; our probe has all tasks in turn, each with its own loss, and no source is
    special. `layers` changes the merged model, not the weights.

    It obeys neither `copies` nor `single`, because the base takes part (`include_base=false`: both), nor `scale`,
    because data do not scale with deltas. It has no option `weights`, because it computes them.

    Args:
        temperature: in units of the loss, above 0; 5 is the default of the authors' code and gives nearly equal
            weights. A lower temperature gives more weight to the best model. Losses that differ by one temperature
            give weights that differ by a factor e.
        num_batches: of the probe, at most; a multiple of the number of tasks weights the tasks equally.
        include_base: whether the base is a candidate, and so needed.

    Raises:
        ConfigError: a temperature that is not positive, or no batches; in `prepare`, a loss that is not finite.
    """

    needs_probe = True
    laws = frozenset({Law.permutation})

    temperature: float = 5.0
    num_batches: int = 10
    include_base: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.temperature > 0 and math.isfinite(self.temperature)):
            raise ConfigError(f"merge=lm_cocktail: temperature={self.temperature} must be a number above 0.")
        if self.num_batches < 1:
            raise ConfigError(f"merge=lm_cocktail: num_batches={self.num_batches} must be 1 or more.")

    @property
    def needs_base(self) -> bool:  # type: ignore[override]
        """The base is needed as a candidate."""
        return self.include_base

    def prepare(self, sources: Sequence[Model], base: Model | None, probe: Probe | None, reporter: Reporter) -> Plan:
        """The weights of all candidates, from their losses."""
        assert probe is not None
        candidates = [*sources, base] if self.include_base and base else list(sources)
        losses: list[float] = []
        parameters: dict[str, Tensor] | None = None
        for number, model in enumerate(candidates):
            parameters = combined([model], None, {ALL: [1.0]}, parameters)
            losses.append(self._loss(model, parameters, probe))
            reporter.log({"loss": losses[-1]}, number)
        weights = torch.tensor(losses, dtype=torch.float64).div(-self.temperature).softmax(0).tolist()
        return {"coefficients": {ALL: weights[: len(sources)]}, "losses": losses, "weights": weights}

    def _loss(self, model: Model, parameters: dict[str, Tensor], probe: Probe) -> float:
        batches = range(min(self.num_batches, probe.num_batches))
        loss = sum(probe.loss(parameters, batch) for batch in batches) / len(batches)
        if not math.isfinite(loss):
            raise ConfigError(f"merge=lm_cocktail: {model.name!r} has the loss {loss} on the probe. Leave it out.")
        return loss
