"""Weights of the sources: one option for all strategies that use them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from lightning_embed.errors import ConfigError
from lightning_embed.merge.contract import MergeStrategy, Model
from lightning_embed.merge.layer_rules import MOST_TIMES, check_factor


class Weighting(StrEnum):
    """equal: the same for all sources. size: the number of training rows. given: the option `weights`."""

    equal = "equal"
    size = "size"
    given = "given"


@dataclass(frozen=True, kw_only=True)
class Weighted(MergeStrategy):
    """A strategy with a weight per source: larger always means more of that source.

    Args:
        weighting: equal, size or given.
        weights: one number per source, in their order; only with `weighting=given`.

    Raises:
        ConfigError: weights without `given`, `given` without weights, a weight that is not finite, only zeros, a sum
            that cannot be normalised or leaves a weight above 100, a weight above 100 that is used unchanged, or a negative weight without a meaning; in `validate_inputs`, a wrong number of
            weights, or a source of unknown size.
    """

    negative: ClassVar[bool] = True
    """Whether a weight may be negative."""

    normalise: ClassVar[bool] = True
    """Whether weights are divided by their sum; else equal and size have mean 1, and given weights are unchanged."""

    weighting: Weighting = Weighting.equal
    weights: list[float] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        given = self.weighting == Weighting.given
        if given and not self.weights:
            raise ConfigError("weighting=given needs weights=[...], one number per source.")
        if self.weights and not given:
            raise ConfigError(
                f"weights={self.weights} have no effect with weighting={self.weighting}. "
                "Set weighting=given, or remove them."
            )
        if self.weights:
            _refuse_unusable(self.weights, self.normalise)
            if not self.normalise:
                for weight in self.weights:
                    check_factor(f"merge={self.word}", f"each of weights={list(self.weights)}", weight)
            if not self.negative and min(self.weights) < 0:
                raise ConfigError(
                    f"merge={self.word}: weights={list(self.weights)} has a negative number, which has no meaning "
                    "here. Use 0 or more."
                )

    def validate_inputs(self, sizes: Sequence[int | None], has_base: bool, has_probe: bool) -> None:
        """Refuse, in addition, weights or sizes that do not fit the sources."""
        super().validate_inputs(sizes, has_base, has_probe)
        if self.weights and len(self.weights) != len(sizes):
            raise ConfigError(
                f"weights={self.weights} are {len(self.weights)} numbers for {len(sizes)} sources. Give one per source."
            )
        if self.weighting == Weighting.size and not all(size and size > 0 for size in sizes):
            raise ConfigError(
                f"weighting=size, but the sizes of the sources are {list(sizes)}. "
                "Give their rows, or use weighting=equal or given."
            )

    def source_weights(self, sources: Sequence[Model]) -> list[float]:
        """The weight of each source, in their order."""
        if self.weighting == Weighting.size:
            weights = [float(source.size or 0) for source in sources]
        else:
            weights = [float(weight) for weight in self.weights or [1.0] * len(sources)]
        if self.normalise or self.weighting == Weighting.size:
            total = sum(weights) if self.normalise else sum(weights) / len(weights)
            weights = [weight / total for weight in weights]
        return weights


def _refuse_unusable(weights: Sequence[float], normalise: bool) -> None:
    if not all(map(math.isfinite, weights)):
        raise ConfigError(f"weights={list(weights)}: every weight must be a finite number.")
    if not any(weights):
        raise ConfigError(f"weights={list(weights)} are all zero. Make one positive.")
    total, most = sum(weights), max(map(abs, weights))
    if normalise and total <= 0:
        raise ConfigError(
            f"weights={list(weights)} have the sum {total:g} and are divided by it. Make the sum positive."
        )
    if normalise and most > MOST_TIMES * total:
        raise ConfigError(
            f"weights={list(weights)} have the sum {total:g} and are divided by it, which makes the largest "
            f"{most / total:g}; expected at most {MOST_TIMES:g}. Make the sum larger."
        )
