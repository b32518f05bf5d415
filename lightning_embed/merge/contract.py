"""The contract of merge strategies, and the types of their inputs. The strategies themselves are in `plugins/`."""

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
"""The result of `prepare`: JSON values only, because merge.json stores it and a later merge can apply it again."""

STATISTICS = "statistics"
"""The key of the statistics of the sources in the plan that `merge` receives, and the name of their folder."""

ANY_NUMBER = range(1, sys.maxsize)
SEVERAL = range(2, sys.maxsize)


class Cut(StrEnum):
    """Where parameters may be cut into blocks."""

    element = "element"  # anywhere: blocks are flat
    row = "row"  # between rows, which keep their shape; a parameter of fewer than two dimensions is one row
    tensor = "tensor"  # nowhere: a block is a parameter


class OutDtype(StrEnum):
    """The dtype of the stored merged parameters. auto: the dtype of the first source."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"
    auto = "auto"


class Vocabulary(StrEnum):
    """The model whose vocabulary and tokenizer a merged model has, where those of its models differ."""

    base = "base"
    first = "first"  # source


class Law(StrEnum):
    """Laws that a strategy can promise for its default options; tests/merge/test_laws.py tests the promise.

    Below, m(s_1, ..., s_N; b) is the merged model of sources s_i with base b (b = 0 where none is used).

        copies       m(s, ..., s; b) = s
        single       m(s; b) = s
        permutation  m does not depend on the order of the sources, each with its weight
        scale        m(b + k (s_1 - b), ...; b) = b + k (m(s_1, ...; b) - b) for all k > 0

    Every strategy obeys these laws without a promise: sources equal to the base give the base; shapes, dtypes and
    finite values are kept; the same call gives the same bits; the ends of shards change nothing, and neither do the
    ends of blocks, if the strategy is not random.
    """

    copies = "copies"
    single = "single"
    permutation = "permutation"
    scale = "scale"


@dataclass(frozen=True)
class Source:
    """A model directory that goes into a merge, and its number of training rows; None: unknown."""

    path: Path
    name: str
    size: int | None = None


@runtime_checkable
class Model(Protocol):
    """An opened source or base, as a strategy sees it."""

    @property
    def name(self) -> str:
        """The expert's name, for messages and logs."""

    @property
    def size(self) -> int | None:
        """Number of training rows; None: unknown."""

    @property
    def parameters(self) -> Mapping[str, torch.Size]:
        """Name and shape of all floating parameters: the same for all models of a merge."""

    def tensor(self, name: str) -> Float[Tensor, "..."]:
        """One parameter as it is stored: a view of the file, not to be written to. `read_blocks` gives float32."""


@runtime_checkable
class Probe(Protocol):
    """A small sample of training data, evaluated with the losses of its tasks and without dropout.

    Batches are numbered. Each holds rows of one dataset, and the tasks take turns; the same number always gives the
    same batch. `parameters` are all parameters of a model, in float32, under the names of the merge; a call reads them
    and keeps no reference.
    """

    @property
    def num_batches(self) -> int:
        """Number of batches of one pass over all rows; larger batch numbers give the rows in a different order."""

    @property
    def rows_seen(self) -> float:
        """Rows evaluated until now; rows without a gradient count a third."""

    def task(self, batch: int) -> str:
        """The task of a batch."""

    def loss(self, parameters: Mapping[str, Tensor], batch: int) -> float:
        """The loss of a model on a batch."""

    def loss_and_gradient(self, parameters: Mapping[str, Tensor], batch: int) -> tuple[float, Mapping[str, Tensor]]:
        """The loss and its gradient, for each parameter that has one; valid until the next call."""

    def activations(
        self, parameters: Mapping[str, Tensor], batch: int
    ) -> Iterator[tuple[str, Float[Tensor, "tokens inputs"]]]:
        """The inputs of each linear layer on a batch: (name of the layer's weight, inputs)."""

    def score(self, parameters: Mapping[str, Tensor]) -> float:
        """The mean dev score over tasks, in points, as a sweep maximises it."""


@runtime_checkable
class Reporter(Protocol):
    """A logger for the curves of a strategy that searches."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Log `metrics` of `step`."""


@dataclass(frozen=True, kw_only=True)
class MergeStrategy(ABC):
    """A way to merge several models. Subclasses are frozen dataclasses under `@register("merge", "<word>")`.

    The fields are the options; `__post_init__` refuses bad values. `prepare` reads whole models and returns plain data.
    `merge` then computes one block of one parameter at a time, and the engine holds no model in memory.

    Class attributes:
        needs_base: whether the strategy needs the model that all sources started from.
        needs_probe: whether it needs a probe.
        needs_scores: whether it uses the dev scores of the probe; the merged model then depends on the metric and on
            the evaluation.
        num_sources: the numbers of sources that it can merge.
        cut: the blocks that `merge` receives. With `element`, each element of the result depends only on the plan and
            on the same element of the inputs.
        laws: see `Law`.

    Args:
        layers: rules "<regular expression>=<number>": a parameter goes that share of the way from the base to its
            merged value (0: it stays the base's; 1: as without a rule). The first match counts; needs the base.
        allow: settings in which the models may differ although the same weights then mean different things, by the
            names that the refusal prints (`rope_theta`, `pooling`, `tokens` ...).

    Raises:
        ConfigError: a rule with a syntax error.
    """

    needs_base: ClassVar[bool] = False
    needs_probe: ClassVar[bool] = False
    needs_scores: ClassVar[bool] = False
    num_sources: ClassVar[range] = ANY_NUMBER
    cut: ClassVar[Cut] = Cut.element
    laws: ClassVar[frozenset[Law]] = frozenset()

    layers: list[str] | None = None
    allow: list[str] | None = None

    def __post_init__(self) -> None:
        parse_rules(self.layers or [])

    def validate_inputs(self, sizes: Sequence[int | None], has_base: bool, has_probe: bool) -> None:
        """Refuse inputs that the strategy cannot merge. It reads no model, so it can be called before training.

        Args:
            sizes: the number of training rows of each source; None: unknown.
            has_base: whether the merge has a base.
            has_probe: whether the merge has a probe.

        Raises:
            ConfigError: too few or too many sources, or a needed base or probe is missing.
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
                f"merge={self.word}: layers={self.layers} are shares of the way from the base, and the merge has no "
                "base. Give base=."
            )
        if self.needs_probe and not has_probe:
            raise ConfigError(
                f"merge={self.word} needs data, and the run has none. Give data=<your datasets>, or use a strategy "
                "that needs no data."
            )

    def prepare(self, sources: Sequence[Model], base: Model | None, probe: Probe | None, reporter: Reporter) -> Plan:  # noqa: ARG002
        """Compute the plan from the whole models, read with `read_blocks`: coefficients, thresholds."""
        return {}

    def statistics(self, source: Model, probe: Probe | None) -> Mapping[str, Float[Tensor, "..."]]:  # noqa: ARG002
        """Statistics of one source on the probe, one tensor per parameter, if they are too large for a plan.

        The engine calls this for one source after the other and writes each result beside merge.json, so that only one
        is in memory. `merge` then receives its block of them as `plan[STATISTICS]`, a list in the order of the
        sources, for the parameters that are named here. A tensor has the shape of its parameter; with `cut=tensor` it
        may have any shape.
        """
        return {}

    def cut_of(self, name: str, shape: torch.Size) -> Cut:  # noqa: ARG002
        """The cut of one parameter; `cut` for all, unless a strategy needs only some of them whole."""
        return self.cut

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
            base: the same block of the base; None without a base.
            plan: the plan of `prepare`, after a trip through JSON, with the `statistics` of the block where it has
                some.
            generator: seeded with (seed, name, number of the block), so that results do not depend on the order of
                work.
        """

    @property
    def word(self) -> str:
        """The word under which the strategy is registered."""
        return next((entry.name for entry in registry.entries("merge") if entry.cls is type(self)), type(self).__name__)


def _count(allowed: range) -> str:
    if allowed.stop == ANY_NUMBER.stop:
        return f"at least {allowed.start} {'sources' if allowed.start > 1 else 'source'}"
    return f"{allowed.start} sources" if len(allowed) == 1 else f"{allowed.start} to {allowed[-1]} sources"
