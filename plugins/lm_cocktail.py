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
    """Weighted average in which a model counts the more, the lower its loss on a few examples.

        merged = sum_i w_i model_i,        w = softmax(-loss_i / temperature)

    over the sources and the base, each one's loss being its mean over the first batches of the probe.

    Xiao et al. (2023), "LM-Cocktail", arXiv 2311.13534. As there the base is a candidate like any other: it is
    where general abilities are, and its loss tells how much of it the examples can bear. Where we differ: there the
    examples are of one target task, and the mix can then be averaged with a model trained for it; here the probe has
    all tasks, in turn, each with its own loss, and no source is special. `layers` changes the mix, not the weights.

    It obeys neither `copies` nor `single`, as the base takes part (`include_base=false`: both), nor `scale`, because data
    do not scale with deltas. There are no weights: they are what is found.

    Args:
        temperature: in units of the loss, above 0. 5, the default of the authors' code, is gentle; the lower, the more the
            best model takes. Losses that differ by one temperature give weights that differ by a factor e.
        num_batches: of the probe, at most; a multiple of the number of tasks counts them alike.
        include_base: whether the base is a candidate (then it is needed).

    Raises:
        ConfigError: a temperature that is not positive, or no batches; while looking, a loss that is not finite.
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
        """Only as a candidate."""
        return self.include_base

    def prepare(self, sources: Sequence[Model], base: Model | None, probe: Probe | None, reporter: Reporter) -> Plan:
        """Look at every candidate."""
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
