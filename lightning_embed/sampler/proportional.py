"""`sampler=proportional`."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from lightning_embed.errors import ConfigError, nearest
from lightning_embed.registry import register
from lightning_embed.sampler.batch_shuffle import BatchShuffle
from lightning_embed.types import TrainSet


@register("sampler", "proportional")
@dataclass(frozen=True)
class Proportional(BatchShuffle):
    """Single-task steps in random order, with a chosen share of the steps for each dataset.

        p_d = n_d^exponent / sum_e n_e^exponent    (n_d rows)    or    p_d = step_shares[d] / their sum

    An epoch is the longest stretch with these shares in which no row is taken twice: with A_d the steps that the rows
    of dataset d fill, T = floor(min_d A_d / p_d) steps, of which d gets p_d * T, rounded by largest remainder, and at
    least one. The remaining rows of the larger datasets are not used in that epoch. No row is repeated within an epoch:
    twice in one batch, it would be its own negative, or, masked, waste a place.

    A small dataset with a large share therefore makes epochs short; `inspect=true` prints the plan. Our reading of sampling with a temperature (1 /
    exponent), which draws the dataset of each step at random: here the shares are exact, up to the rounding to whole
    steps of an epoch.

    Args:
        accumulate: see `Sampler`.
        exponent: of the number of rows, in [0, 1]; 1: shares by size, 0: equal shares; typically 0.3 to 0.7.
        step_shares: share of the steps of each dataset of the run, any positive numbers, divided by their sum; then
            `exponent` is not used. Datasets that an expert does not have are ignored.

    Raises:
        ConfigError: a value out of range, or a dataset of the run without a share.
    """

    exponent: float = 0.5
    step_shares: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.exponent <= 1:
            raise ConfigError(f"proportional: exponent must be in [0, 1], got {self.exponent}.")
        for name, share in self.step_shares.items():
            if not 0 < share < math.inf:
                raise ConfigError(
                    f"proportional: step_shares.{name} must be a positive number, got {share}; "
                    "to leave a dataset out, take it out of the data."
                )

    def num_batches(self, datasets: Mapping[str, TrainSet]) -> dict[str, int]:
        """See `Sampler.num_batches`; in the proportions of the shares."""
        available = {name: count // self.accumulate for name, count in super().num_batches(datasets).items()}
        weights = {name: weight for name, weight in self._weights(datasets).items() if available[name]}
        total = sum(weights.values())
        steps = min((available[name] * total // weight for name, weight in weights.items()), default=0)
        split = _largest_remainder({name: steps * weight / total for name, weight in weights.items()})
        # At least one step: the rounding is the same in every epoch, and would leave a dataset out for ever.
        return {name: max(1, split[name]) * self.accumulate if name in split else 0 for name in datasets}

    def _weights(self, datasets: Mapping[str, TrainSet]) -> dict[str, Fraction]:
        """Shares before normalisation, exactly as typed: 0.1 of 100 steps is 10 steps, never 9."""
        for name in datasets:
            if self.step_shares and name not in self.step_shares:
                raise ConfigError(
                    f"proportional: step_shares has no share for the dataset {name}. {nearest(name, self.step_shares)}"
                )
        return {
            name: Fraction(str(self.step_shares.get(name) or dataset.num_rows**self.exponent))
            for name, dataset in datasets.items()
        }


def _largest_remainder(parts: Mapping[str, Fraction]) -> dict[str, int]:
    """Round to whole numbers of the same sum; of equal remainders the first is rounded up."""
    whole = {name: int(part) for name, part in parts.items()}
    missing = int(sum(parts.values())) - sum(whole.values())
    for name in sorted(parts, key=lambda name: whole[name] - parts[name])[:missing]:
        whole[name] += 1
    return whole
