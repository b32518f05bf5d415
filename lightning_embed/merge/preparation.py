"""The plan of a merge: prepared by its strategy, or taken from an earlier merge of the same models."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from lightning_embed.errors import PluginError
from lightning_embed.merge.contract import STATISTICS, MergeStrategy, Model, Plan, Probe, Reporter
from lightning_embed.merge.record.statistics import write_statistics


class _Silent:
    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Log nothing."""


@dataclass(frozen=True)
class Preparation:
    """A plan that the strategy prepares from the models and a probe.

    Args:
        probe: training data, for strategies with `needs_probe`.
        looks_at: options of the probe, kept in merge.json.
        reporter: logs the search of the strategy.
    """

    probe: Probe | None = None
    looks_at: Mapping[str, Any] = field(default_factory=dict)
    reporter: Reporter = field(default_factory=_Silent)

    fitted: ClassVar[None] = None
    """Nothing is known of the configuration that opens the merged weights."""

    @property
    def has_probe(self) -> bool:
        """Whether a strategy with `needs_probe` can be prepared."""
        return self.probe is not None

    @property
    def rows_seen(self) -> float:
        """Rows of the probe that were read until now; rows without a gradient count a third."""
        return 0.0 if self.probe is None else self.probe.rows_seen

    def plan(self, strategy: MergeStrategy, sources: Sequence[Model], base: Model | None, folder: Path) -> Plan:
        """The plan of `strategy`; its statistics are written to `<folder>/statistics/`.

        Raises:
            CheckpointError: NaN or infinity in a model, or in its statistics.
            PluginError: the plan is not JSON, or the statistics do not fit the parameters.
        """
        plan = _as_json(strategy, strategy.prepare(sources, base, self.probe, self.reporter))
        write_statistics(strategy, sources, self.probe, folder / STATISTICS)
        return plan


WITHOUT_PROBE = Preparation()


@dataclass(frozen=True)
class StoredPlan:
    """The plan of an earlier merge of the same models: `prepare` is not called, and no probe is needed.

    Args:
        stored: the plan.
        looks_at: options of the probe at that time, kept in merge.json.
        statistics: folder of the statistics of that merge; None: it has none.
        fitted: the changes of configurations at that time; None: unknown.
    """

    stored: Plan
    looks_at: Mapping[str, Any] = field(default_factory=dict)
    statistics: Path | None = None
    fitted: dict[str, dict[str, Any]] | None = None

    has_probe = True
    """The stored plan has the results of a probe, where the strategy needs one."""
    rows_seen = 0.0

    def plan(self, strategy: MergeStrategy, sources: Sequence[Model], base: Model | None, folder: Path) -> Plan:  # noqa: ARG002
        """The stored plan; the statistics are copied to `<folder>/statistics/`."""
        if self.statistics is not None:
            shutil.copytree(self.statistics, folder / STATISTICS)
        return self.stored


def _as_json(strategy: MergeStrategy, plan: Plan) -> Plan:
    """The plan as merge.json returns it, so that a stored plan makes the same model."""
    try:
        plain: Plan = json.loads(json.dumps(plan, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise PluginError(
            f"merge={strategy.word}: the plan must be finite JSON values: {error}. Fix its prepare()."
        ) from None
    return plain
