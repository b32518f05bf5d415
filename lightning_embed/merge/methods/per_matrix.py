"""Strategies that treat the delta of a linear layer as a matrix, and average the deltas of all other parameters."""

from abc import abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_embed.errors import ConfigError
from lightning_embed.merge.contract import Cut, MergeStrategy, Plan
from lightning_embed.merge.layer_rules import check_factor


@dataclass(frozen=True, kw_only=True)
class PerMatrix(MergeStrategy):
    """A strategy that merges the deltas of one linear layer as whole matrices.

        merged = base + scale * merged_delta(delta_1, ..., delta_N)      for the weights of linear layers
        merged = base + scale * mean_i delta_i                           for everything else

    The weight of a linear layer is a parameter of two dimensions that is not a table: its name does not contain
    "embed", and it has at most `max_rows` rows. Layers come one at a time; all other parameters are streamed.

    Args:
        scale: of the merged delta, from -100 to 100.
        max_rows: of a linear layer, at least 1; a matrix with more is the table of a vocabulary.

    Raises:
        ConfigError: a scale outside -100 to 100, or a max_rows below 1.
    """

    needs_base = True

    scale: float = 1.0
    max_rows: int = 8192

    def __post_init__(self) -> None:
        super().__post_init__()
        check_factor(f"merge={self.word}", "scale", self.scale)
        if self.max_rows < 1:
            raise ConfigError(f"merge={self.word}: max_rows={self.max_rows} must be at least 1.")

    @abstractmethod
    def merged_delta(self, deltas: Float[Tensor, "sources rows columns"]) -> Float[Tensor, "rows columns"]:
        """The merged delta of a linear layer.

        In float64: the last digits of a decomposition in float32 depend on where its memory lies.
        """

    def cut_of(self, name: str, shape: torch.Size) -> Cut:
        """Linear layers are not cut."""
        return Cut.tensor if self.is_linear(name, shape) else Cut.element

    def is_linear(self, name: str, shape: torch.Size) -> bool:
        """Whether a parameter is the weight of a linear layer."""
        return len(shape) == 2 and shape[0] <= self.max_rows and "embed" not in name

    def merge(
        self,
        name: str,
        tensors: Float[Tensor, " sources *shape"],
        base: Float[Tensor, "*shape"] | None,
        plan: Plan,  # noqa: ARG002
        generator: torch.Generator,  # noqa: ARG002
    ) -> Float[Tensor, "*shape"]:
        """The base plus the scaled delta."""
        assert base is not None
        deltas = tensors - base
        linear = self.is_linear(name, base.shape)
        delta = self.merged_delta(deltas.double()).float() if linear else deltas.mean(0)
        return torch.add(base, delta, alpha=self.scale)


def without_rounding(
    left: Float[Tensor, "rows rank"], values: Float[Tensor, " rank"], right: Float[Tensor, "rank columns"]
) -> tuple[Float[Tensor, "rows _"], Float[Tensor, " _"], Float[Tensor, "_ columns"]]:
    """A singular value decomposition without the directions that are rounding errors, whose vectors are arbitrary.

    They are those below the largest value times max(rows, columns) times the precision of float32, in which models are
    stored: `numpy.linalg.matrix_rank` draws the same line. The delta of a folded LoRA has many of them.
    """
    tolerance = max(len(left), right.shape[1]) * torch.finfo(torch.float32).eps
    rank = int((values > values[:1] * tolerance).sum())
    return left[:, :rank], values[:rank], right[:rank]
