"""A stage of a training: a part of it with data and options of its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lightning_embed.errors import ConfigError, nearest

GROUPS = (
    "optimizer",
    "parameter_groups",
    "scheduler",
    "sampler",
    "retrieval_loss",
    "sts_loss",
    "label_loss",
    "trainer",
)
"""Keys of the run's config that a stage may have as well: a word, or options in place of the run's."""
_LIMITS = ("max_steps", "max_epochs")


@dataclass(frozen=True)
class Stage:
    """One stage.

    Args:
        name: its word.
        datasets: names of the datasets of the expert that it trains on; empty: all of them.
        sources: models that it gives to the merge: 0: none, its model is only the start of the next stage; several:
            snapshots of it at equal distances, the last is its model. None: as `experts.snapshots`.
        options: options of its training, by key of the run's config, and `batch_size`, of all of its datasets.

    Raises:
        ConfigError: a number out of its range.
    """

    name: str
    datasets: Sequence[str]
    sources: int | None
    options: Mapping[str, Any]

    def __post_init__(self) -> None:
        if self.sources is not None and self.sources < 0:
            raise ConfigError(f"experts.stages.{self.name}.sources must be at least 0 or null, got {self.sources}.")
        limits = self.options.get("trainer", {})
        if not isinstance(limits, Mapping) or (unknown := sorted(limits.keys() - set(_LIMITS))):
            found = unknown[0] if isinstance(limits, Mapping) else limits
            raise ConfigError(f"experts.stages.{self.name}.trainer: expected max_steps or max_epochs, got {found}.")
        for key, limit in limits.items():
            if not isinstance(limit, int) or limit == 0 or limit < -1:
                raise ConfigError(
                    f"experts.stages.{self.name}.trainer.{key}={limit}: expected a number from 1, or -1 for no limit."
                )

    @classmethod
    def of(cls, name: str, given: Any) -> "Stage":
        """The stage of plain options.

        Raises:
            ConfigError: no options, or one that no stage has.
        """
        known = ("datasets", "sources", "batch_size", *GROUPS)
        if not isinstance(given, Mapping):
            raise ConfigError(f"experts.stages.{name}: expected options like {{datasets: [...]}}, got {given!r}.")
        if unknown := sorted(given.keys() - set(known)):
            raise ConfigError(f"experts.stages.{name}.{unknown[0]}: no such option. {nearest(unknown[0], known)}")
        options = {key: value for key, value in given.items() if key not in ("datasets", "sources")}
        return cls(name, list(given.get("datasets") or ()), given.get("sources"), options)

    def rows(self, of_expert: Mapping[str, Sequence[int] | None]) -> dict[str, Sequence[int] | None]:
        """The rows of an expert that this stage trains on; empty: the expert has none of its datasets."""
        return {name: rows for name, rows in of_expert.items() if not self.datasets or name in self.datasets}
