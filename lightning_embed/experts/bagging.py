"""`experts=bagging`."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from lightning_embed.errors import ConfigError
from lightning_embed.experts.base import Expert, ExpertPlan, Measure
from lightning_embed.experts.draw import draw
from lightning_embed.registry import register
from lightning_embed.runtime.seeding import derive_seed
from lightning_embed.types import TrainSet


@register("experts", "bagging")
@dataclass(frozen=True)
class Bagging(ExpertPlan):
    """Experts on random shares of all datasets, each from the base: BOOM.

        rows of dataset d in bag m = max(floor(k_m |d|), one batch), without replacement
        cost = sum_m k_m, in joint runs over the same number of epochs

    BOOM (2026, arXiv 2602.05787). Its sets of shares, and their cost: [0.2, 0.4, 0.6, 0.8, 1.0] 3.0, second-hand the
    best; [0.8, 1.0] and [0.6, 0.6, 0.6] 1.8; [0.5] with its complement ("{50}-and-R") 1.0. Bags are drawn independently
    of each other (second-hand), and each dataset by itself. Our reading: rounding down, at least one batch, and a
    learning-rate schedule over each model's own steps.

    Args:
        bag_shares: one expert each: the share of every dataset that it trains on, in (0, 1]; 1: all rows.
        complement: add a second bag of the rows that the first leaves out; for a single share below 1.
        nested: a smaller bag is part of every larger one.

    Raises:
        ConfigError: no share or one out of range; a complement of several shares or of all rows; the same bag twice.
    """

    bag_shares: list[float] = field(default_factory=lambda: [0.2, 0.4, 0.6, 0.8, 1.0])
    complement: bool = False
    nested: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        shares = list(self.bag_shares)
        if not shares or not all(0 < share <= 1 for share in shares):
            raise ConfigError(f"experts.bag_shares must be one or more shares in (0, 1], got {shares}.")
        if self.complement and (len(shares) > 1 or shares[0] == 1):
            raise ConfigError(
                f"experts.complement needs one share below 1, like experts.bag_shares=[0.5]; got {shares}."
            )
        fixed = [share for share in shares if self.nested or share == 1]
        if len(set(fixed)) < len(fixed):
            raise ConfigError(
                f"experts.bag_shares={shares} has the same bag twice: equal shares differ only where they are drawn "
                "independently and below 1. Remove one, or train it twice by experts.seeds=2."
            )

    def experts(self, datasets: Mapping[str, TrainSet], seed: int, measure: Measure) -> list[Expert]:
        """One expert per share, named bag_0, bag_1, ...; then the complement."""
        del measure
        bags = [self._bag(datasets, seed, number) for number in range(len(self.bag_shares))]
        if self.complement:
            bags.append(self._complement(datasets, seed))
        return bags

    def _bag(self, datasets: Mapping[str, TrainSet], seed: int, number: int) -> Expert:
        name, share = f"bag_{number}", self.bag_shares[number]
        return Expert(name, {d: draw(rows, share, self._seed(seed, d, name)) for d, rows in datasets.items()})

    def _complement(self, datasets: Mapping[str, TrainSet], seed: int) -> Expert:
        rows = {
            d: draw(rows, self.bag_shares[0], self._seed(seed, d, "bag_0"), rest=True) for d, rows in datasets.items()
        }
        left = {d: chosen for d, chosen in rows.items() if chosen}
        if not left:
            raise ConfigError(
                "experts.complement: bag_0 takes one batch of each dataset, which is all of its rows. Lower batch_size."
            )
        return Expert("bag_1", left)

    def _seed(self, seed: int, dataset: str, bag: str) -> int:
        return derive_seed(seed, "bag", dataset) if self.nested else derive_seed(seed, "bag", dataset, bag)
