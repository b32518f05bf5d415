"""`experts=update`."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

from lightning_embed.errors import ConfigError, nearest
from lightning_embed.experts.base import Expert, ExpertPlan, Measure
from lightning_embed.experts.draw import draw
from lightning_embed.registry import register
from lightning_embed.runtime.seeding import derive_seed
from lightning_embed.types import TrainSet

_EXISTING = "existing"


class Start(StrEnum):
    """The model from which the expert starts."""

    base = "base"
    existing = "existing"


@register("experts", "update")
@dataclass(frozen=True)
class Update(ExpertPlan):
    """An existing model, and one expert on new datasets and a share of the old ones, from the base.

        cost = (h |old| + |new|) / (|old| + |new|), of training on everything again

    The incremental step of BOOM (2026, arXiv 2602.05787), merged there by multislerp with equal weights. Second-hand:
    the expert starts from the base of the existing model, not from the existing model; the share is 40 %, drawn once,
    of each old dataset by itself: the same rows at the next update with the same seed.

    Args:
        new: names of the datasets that the existing model has not seen.
        history_share: h, the share of every other dataset that is trained on again, in [0, 1], typically 0.4.
        existing: directory of the existing model.
        start: the model from which the expert starts. existing: its delta holds that of the existing model too, as in
            the last step of Self Positioning (2024, arXiv 2410.15035) with Instructor's data.

    Raises:
        ConfigError: a share out of range; no new dataset, or one that has no train rows; no directory of a model.
    """

    new: list[str] = field(default_factory=list)
    history_share: float = 0.4
    existing: str | None = None
    start: Start = Start.base

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.history_share <= 1:
            raise ConfigError(f"experts.history_share must be in [0, 1], got {self.history_share}.")

    def experts(self, datasets: Mapping[str, TrainSet], seed: int, measure: Measure) -> list[Expert]:
        """The source `existing` and the expert `update`."""
        del measure
        self._check(datasets)
        rows = {
            name: None if name in self.new else draw(dataset, self.history_share, derive_seed(seed, "history", name))
            for name, dataset in datasets.items()
            if name in self.new or self.history_share
        }
        update = Expert("update", rows)
        if self.start == Start.existing:
            update = replace(update, start=_EXISTING, start_path=self.existing)
        return [Expert(_EXISTING, rows={}, path=self.existing), update]

    def _check(self, datasets: Mapping[str, TrainSet]) -> None:
        if not self.new:
            raise ConfigError(
                f"experts=update needs experts.new=[...], the new datasets. Known: {', '.join(datasets)}."
            )
        for name in self.new:
            if name not in datasets:
                raise ConfigError(f"experts.new: no dataset {name!r} with train rows. {nearest(name, datasets)}")
        if self.existing is None:
            raise ConfigError("experts=update needs the model to merge with: give experts.existing=<its directory>.")
        if not Path(self.existing).is_dir():
            raise ConfigError(f"experts.existing={self.existing} is not a directory: give that of the existing model.")
