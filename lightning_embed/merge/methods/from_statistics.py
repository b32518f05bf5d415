"""Strategies that compute statistics of each source on a probe."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from lightning_embed.errors import ConfigError
from lightning_embed.merge.contract import Model, Plan, Probe, Reporter
from lightning_embed.merge.methods.linear import ALL, combined
from lightning_embed.merge.methods.weighting import Weighted


class Batches(StrEnum):
    """all: every source gets the same batches. own: each source gets the batches of the task that it is named after."""

    all = "all"
    own = "own"


@dataclass(frozen=True, kw_only=True)
class FromStatistics(Weighted):
    """A strategy with `statistics` from the batches of a probe. Its plan is {"weights": [w_1, ..., w_N]}.

    Statistics are kept beside merge.json, because the merge cannot be repeated without them; each strategy documents
    their size. One model and its statistics are in memory at a time.

    Args:
        num_batches: of the probe, for each source; at most one pass over the probe, at least 1, usually 30 to 300.
        batches: all or own; `own` is for `experts=per_task`, which names experts after tasks.

    Raises:
        ConfigError: no batches, or a negative weight; in `prepare`, batches=own and a source without the name of a
            task.
    """

    needs_probe = True
    negative: ClassVar[bool] = False

    num_batches: int = 64
    batches: Batches = Batches.all

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_batches < 1:
            raise ConfigError(f"merge={self.word}: num_batches={self.num_batches} must be at least 1.")

    def prepare(self, sources: Sequence[Model], base: Model | None, probe: Probe | None, reporter: Reporter) -> Plan:  # noqa: ARG002
        """The weights. Refuses sources without batches before the long work begins."""
        for source in sources:
            self.batches_of(source, probe)
        return {"weights": self.source_weights(sources)}

    def batches_of(self, source: Model, probe: Probe | None) -> list[int]:
        """The numbers of the batches of a source."""
        assert probe is not None
        own = self.batches == Batches.own
        found = [b for b in range(probe.num_batches) if not own or probe.task(b) == source.name]
        if not found:
            tasks = sorted({probe.task(batch) for batch in range(probe.num_batches)})
            raise ConfigError(
                f"merge={self.word}: batches=own, and {source.name!r} is none of the probe's tasks: "
                f"{', '.join(tasks)}. Use batches=all."
            )
        return found[: self.num_batches]


def in_memory(source: Model) -> dict[str, Float[Tensor, "..."]]:
    """All parameters of one model, in float32, for a probe."""
    return combined([source], None, {ALL: [1.0]})
