"""Strategies that keep some elements of each delta and average them; they differ in the choice of elements."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lightning_embed.errors import ConfigError
from lightning_embed.merge.contract import Law, Model, Plan, Probe, Reporter
from lightning_embed.merge.layer_rules import check_factor
from lightning_embed.merge.methods.sign_election import Combine, fuse
from lightning_embed.merge.methods.weighting import Weighted


@dataclass(frozen=True, kw_only=True)
class Sparse(Weighted):
    """A strategy that sets elements of each delta to zero before it averages.

        merged = base + scale * (sum_i w_i kept_i) / (sum_i w_i)

    With `combine=linear` the sums run over all sources. With `combine=ties` they run over those whose kept_i has the
    elected sign, that of sum_i w_i kept_i; a balanced vote elects no sign, and the element stays the base's.

    Neither `copies` nor `single` hold, because elements are missing.

    Args:
        density: share of each delta that is kept, in (0, 1].
        combine: linear or ties.
        scale: of the mean, from -100 to 100.

    Raises:
        ConfigError: a density outside (0, 1]; a scale outside -100 to 100; a negative weight with `combine=ties`.
    """

    needs_base = True
    laws = frozenset({Law.permutation, Law.scale})

    density: float = 0.5
    combine: Combine = Combine.linear
    scale: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_density(self.word, self.density)
        check_factor(f"merge={self.word}", "scale", self.scale)

    @property
    def negative(self) -> bool:  # type: ignore[override]
        """Votes cannot be negative."""
        return self.combine == Combine.linear

    def prepare(
        self,
        sources: Sequence[Model],
        base: Model | None,  # noqa: ARG002
        probe: Probe | None,  # noqa: ARG002
        reporter: Reporter,  # noqa: ARG002
    ) -> Plan:
        """The weights."""
        return {"weights": self.source_weights(sources)}

    @abstractmethod
    def keep(
        self, name: str, deltas: Float[Tensor, " sources *shape"], plan: Plan, generator: torch.Generator
    ) -> Float[Tensor, " sources *shape"]:
        """The kept elements of a block of deltas, zeros elsewhere; `deltas` may be overwritten."""

    def merge(
        self,
        name: str,
        tensors: Float[Tensor, " sources *shape"],
        base: Float[Tensor, "*shape"] | None,
        plan: Plan,
        generator: torch.Generator,
    ) -> Float[Tensor, "*shape"]:
        """The base plus the scaled mean of the kept deltas."""
        assert base is not None
        kept = self.keep(name, tensors - base, plan, generator)
        return torch.add(base, fuse(kept, plan["weights"], self.combine), alpha=self.scale)


def uniform(shape: torch.Size, generator: torch.Generator) -> Float[Tensor, "*shape"]:
    """Uniform random numbers in [0, 1) with 24 bits, as of `torch.rand`, from NumPy's SFC64 in half the time."""
    seed = int(torch.randint(2**62, (1,), generator=generator))
    bits = np.random.SFC64(seed).random_raw(-(-shape.numel() // 2)).view(np.uint32)[: shape.numel()]
    bits >>= 8
    return torch.from_numpy(bits.astype(np.float32)).mul_(2.0**-24).view(shape)


def check_density(word: str, density: float) -> None:
    """Refuse a density outside (0, 1].

    Raises:
        ConfigError: `density` is not in (0, 1].
    """
    if not 0 < density <= 1:
        raise ConfigError(
            f"merge={word}: density={density} must be above 0 and at most 1: it is the share that is kept."
        )


def check_probability(word: str, what: str, probability: float) -> None:
    """Refuse a probability that `uniform` cannot draw: its numbers are multiples of 2^-24, 0 included.

    Raises:
        ConfigError: `probability` is below 10^-6.
    """
    if probability < 1e-6:
        raise ConfigError(
            f"merge={word}: {what}={probability:g} must be at least 1e-6: kept elements are divided by it. Raise it."
        )


def num_kept(numel: int, density: float) -> int:
    """The number of elements that a density keeps: at least one, except for an empty parameter."""
    return min(numel, max(1, round(density * numel)))
