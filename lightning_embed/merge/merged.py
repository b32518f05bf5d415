"""The merged model, computed as it is written."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from lightning_embed.errors import CheckpointError, CheckpointMismatch, PluginError
from lightning_embed.merge.checkpoint import ModelDirectory
from lightning_embed.merge.contract import MergeStrategy, Plan
from lightning_embed.merge.geometry import Sums, measure
from lightning_embed.merge.names import Header, TensorInfo
from lightning_embed.merge.stream import Block, is_finite, read_blocks
from lightning_embed.seeding import derive_seed


@dataclass
class MergedModel:
    """Header and tensors of the result; with a base, `sums` is the geometry of what has been computed so far.

    Args:
        strategy: how to merge.
        sources: what to merge, names agreed.
        base: what they started from.
        plan: of the strategy.
        dtype: of the floating tensors; None for that of the first source.
        seed: of random strategies.
    """

    strategy: MergeStrategy
    sources: Sequence[ModelDirectory]
    base: ModelDirectory | None
    plan: Plan
    dtype: torch.dtype | None
    seed: int
    sums: Sums = field(init=False)

    def __post_init__(self) -> None:
        self.sums = Sums.zero(len(self.sources))

    @property
    def header(self) -> Header:
        """What will be written."""
        first = self.sources[0]
        parameters = {
            name: TensorInfo(self.dtype or first.info(name).dtype, shape) for name, shape in first.parameters.items()
        }
        return parameters | {name: first.info(name) for name in first.buffers}

    def pieces(self, name: str) -> Iterator[Shaped[Tensor, "..."]]:
        """Compute one tensor, piece by piece.

        Raises:
            CheckpointError: NaN or infinity in a model or in the result.
            CheckpointMismatch: a tensor that is not floating, and not the same in all models.
            PluginError: the strategy returned another shape or dtype.
        """
        if name in self.sources[0].parameters:
            yield from self._merge(name)
        else:
            yield self._common(name)

    def _merge(self, name: str) -> Iterator[Float[Tensor, "..."]]:
        dtype = self.dtype or self.sources[0].info(name).dtype
        unchanged = self._is_unchanged(name)
        for block in self._blocks(name):
            if self.base:
                self.sums += measure(block)
            merged = (block.base if unchanged and block.base is not None else self._merge_block(block)).to(dtype)
            if not is_finite(merged):
                raise CheckpointError(
                    f"merge={self.strategy.word} gives NaN or infinity in {name} as {dtype}. Change its options, or write out_dtype=float32."
                )
            yield merged

    def _blocks(self, name: str) -> Iterator[Block]:
        return read_blocks(name, self.sources, self.base, self.strategy.elementwise)

    def _is_unchanged(self, name: str) -> bool:
        """Whether all sources have the base's values: frozen parameters are kept, whatever the strategy's rounding."""
        return self.base is not None and not any(bool(block.deltas.any()) for block in self._blocks(name))

    def _merge_block(self, block: Block) -> Float[Tensor, "..."]:
        generator = torch.Generator().manual_seed(derive_seed(self.seed, block.name, block.index))
        merged = self.strategy.merge(block.name, block.tensors, block.base, self.plan, generator)
        expected = block.tensors[0]
        if merged.shape != expected.shape or merged.dtype != expected.dtype:
            raise PluginError(
                f"merge={self.strategy.word} must return {list(expected.shape)} {expected.dtype} for {block.name}, "
                f"got {list(merged.shape)} {merged.dtype}. Mend its merge()."
            )
        return merged

    def _common(self, name: str) -> Shaped[Tensor, "..."]:
        first = self.sources[0].tensor(name)
        for model in [*self.sources[1:], *([self.base] if self.base else [])]:
            if not torch.equal(model.tensor(name), first):
                raise CheckpointMismatch(
                    f"{name} has {first.dtype} values, which cannot be averaged, and differs between {self.sources[0].name!r} and {model.name!r}. "
                    "Make it equal, or leave one of the models out."
                )
        return first
