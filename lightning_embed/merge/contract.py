"""What a merge strategy is, and what it is given. `plugins/` holds the strategies; the engine knows none of them."""

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_embed import registry
from lightning_embed.errors import ConfigError
from lightning_embed.merge.layer_rules import parse_rules

Plan: TypeAlias = Mapping[str, Any]
"""What `prepare` found: JSON values only, because it is written to merge.json and can be applied again from there."""

STATISTICS = "statistics"
"""Where in its plan `merge` finds what `statistics` has answered about each source, and what the folder of it is called."""

ANY_NUMBER = range(1, sys.maxsize)
SEVERAL = range(2, sys.maxsize)


class Cut(StrEnum):
    """How parameters may be cut into blocks."""

    element = "element"  # anywhere: blocks are flat
    row = "row"  # between rows, which keep their shape; what has fewer than two dimensions is one row
    tensor = "tensor"  # not at all


class OutDtype(StrEnum):
    """What the merged parameters are stored in. auto: what the first source has."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"
    auto = "auto"


class Law(StrEnum):
    """What a strategy may promise at its default options; tests/merge/test_laws.py holds it to its word.

    Below, m(s_1, ..., s_N; b) is the merged model of sources s_i with base b (b = 0 where none is used).

        copies       m(s, ..., s; b) = s
        single       m(s; b) = s
        permutation  m does not depend on the order of the sources, each with its weight
        scale        m(b + k (s_1 - b), ...; b) = b + k (m(s_1, ...; b) - b) for all k > 0

    Every strategy obeys, without saying so: sources equal to the base give the base; shapes, dtypes and finite values
    are kept; the same call gives the same bits; where shards end changes nothing, nor, if it is not random, where blocks end.
    """

    copies = "copies"
    single = "single"
    permutation = "permutation"
    scale = "scale"


@dataclass(frozen=True)
class Source:
    """A model directory that goes into a merge, and the rows that it was trained on, where they are known."""

    path: Path
    name: str
    size: int | None = None


@runtime_checkable
class Model(Protocol):
    """A source or the base, opened: what a strategy sees of it."""

    @property
    def name(self) -> str:
        """The expert's name, for messages and logs."""

    @property
    def size(self) -> int | None:
        """Rows that it was trained on; None if nobody said."""

    @property
    def parameters(self) -> Mapping[str, torch.Size]:
        """Name and shape of all floating parameters: the same for all models of a merge."""

    def tensor(self, name: str) -> Float[Tensor, "..."]:
        """One parameter as it is stored: a view of the file, to be read only. `read_blocks` gives float32."""


@runtime_checkable
class Probe(Protocol):
    """A little data, looked at with the losses of its tasks and without dropout. The pipeline builds it.

    Batches of one dataset each, numbered; the batch of a number is always the same, the tasks take turns. `parameters`
    are all parameters of a model, in float32, under the names of the merge; they are read while a call lasts.
    """

    @property
    def num_batches(self) -> int:
        """Batches until all rows have been seen once; larger numbers see them in another order."""

    @property
    def rows_seen(self) -> float:
        """Rows looked at until now; those without a gradient count a third."""

    def task(self, batch: int) -> str:
        """What a batch trains."""

    def loss(self, parameters: Mapping[str, Tensor], batch: int) -> float:
        """Loss of a model on a batch."""

    def loss_and_gradient(self, parameters: Mapping[str, Tensor], batch: int) -> tuple[float, Mapping[str, Tensor]]:
        """The loss, and its gradient by each parameter that has one; valid until the next call."""

    def activations(
        self, parameters: Mapping[str, Tensor], batch: int
    ) -> Iterator[tuple[str, Float[Tensor, "tokens inputs"]]]:
        """What a batch feeds to each linear layer: (name of the layer's weight, its inputs)."""

    def score(self, parameters: Mapping[str, Tensor]) -> float:
        """What a sweep would maximise: the mean dev score over tasks, in points."""


@runtime_checkable
class Reporter(Protocol):
    """Where a strategy that searches writes its curves."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Log `metrics` of `step`."""


@dataclass(frozen=True, kw_only=True)
class MergeStrategy(ABC):
    """How several models become one. Subclasses are frozen dataclasses under `@register("merge", "<word>")`.

    The fields are the options, refused in `__post_init__`. `prepare` looks at whole models and returns plain data;
    `merge` then makes one block of one parameter at a time, and the engine holds no model in memory.

    Class attributes:
        needs_base: refuse to run without the model that all sources started from.
        needs_probe: refuse to run without a probe.
        needs_scores: asks the probe for dev scores; another metric or evaluation may then give another model.
        num_sources: how many sources it can merge.
        cut: which blocks `merge` gets. With `element` each element of the result may depend, given the plan, on the
            same element of the inputs only.
        laws: see `Law`.

    Args:
        layers: rules "<regular expression>=<number>": a parameter goes that share of the way from the base to what the
            strategy makes of it (0: it stays the base's; 1: as without a rule). The first match counts; needs the base.

    Raises:
        ConfigError: a rule that cannot be read.
    """

    needs_base: ClassVar[bool] = False
    needs_probe: ClassVar[bool] = False
    needs_scores: ClassVar[bool] = False
    num_sources: ClassVar[range] = ANY_NUMBER
    cut: ClassVar[Cut] = Cut.element
    laws: ClassVar[frozenset[Law]] = frozenset()

    layers: list[str] | None = None

    def __post_init__(self) -> None:
        parse_rules(self.layers or [])

    def validate_inputs(self, sizes: Sequence[int | None], has_base: bool, has_probe: bool) -> None:
        """Refuse a merge that cannot work; needs no model, so it can be asked before training.

        Args:
            sizes: of each source, the rows that it was trained on; None: unknown.
            has_base: whether the model that all started from is known.
            has_probe: whether there is data to look at.

        Raises:
            ConfigError: too few or too many sources, no base, or no probe, where they are needed.
        """
        if len(sizes) not in self.num_sources:
            raise ConfigError(
                f"merge={self.word} takes {_count(self.num_sources)}, got {len(sizes)}. Change sources or experts."
            )
        if self.needs_base and not has_base:
            raise ConfigError(
                f"merge={self.word} needs the base and got none. Give base=<the model that all sources started from>."
            )
        if self.layers and not has_base:
            raise ConfigError(
                f"merge={self.word}: layers={self.layers} are shares of the way from the base, and there is none. Give base=."
            )
        if self.needs_probe and not has_probe:
            raise ConfigError(
                f"merge={self.word} looks at data, and there is none. Give data=<your datasets>, or merge with a strategy that needs none."
            )

    def prepare(self, sources: Sequence[Model], base: Model | None, probe: Probe | None, reporter: Reporter) -> Plan:  # noqa: ARG002
        """Find what has to be known of the whole models: coefficients, thresholds. Reads with `read_blocks`."""
        return {}

    def statistics(self, source: Model, probe: Probe | None) -> Mapping[str, Float[Tensor, "..."]]:  # noqa: ARG002
        """What data says of one source, parameter by parameter, if that is too large for a plan.

        The engine asks about one source after another and writes each answer beside merge.json; no two are in memory.
        `merge` then gets its block of them as `plan[STATISTICS]`, a list in the order of the sources, where the
        parameter is named. A tensor has the shape of its parameter, or, where `cut` is tensor, any other.
        """
        return {}

    @abstractmethod
    def merge(
        self,
        name: str,
        tensors: Float[Tensor, " sources *shape"],
        base: Float[Tensor, "*shape"] | None,
        plan: Plan,
        generator: torch.Generator,
    ) -> Float[Tensor, "*shape"]:
        """Merge one block of the parameter `name`, in float32, leaving the inputs as they are.

        Args:
            name: of the parameter.
            tensors: its block in all sources, in their order.
            base: the same block of the base, if there is one.
            plan: from `prepare`, after a trip through JSON; with the block's `statistics`, if there are any.
            generator: seeded with (seed, name, number of the block): randomness that no order of work can change.
        """

    @property
    def word(self) -> str:
        """The word that it is registered under."""
        return next((entry.name for entry in registry.entries("merge") if entry.cls is type(self)), type(self).__name__)


def _count(allowed: range) -> str:
    if allowed.stop == ANY_NUMBER.stop:
        return f"at least {allowed.start} source{'s' * (allowed.start > 1)}"
    return f"{allowed.start} sources" if len(allowed) == 1 else f"{allowed.start} to {allowed[-1]} sources"
