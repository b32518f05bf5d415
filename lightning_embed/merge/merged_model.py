"""The merged model, computed while it is written."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from lightning_embed.errors import CheckpointError, CheckpointMismatch, PluginError
from lightning_embed.merge.blocks.stream import Block, Span, in_parallel, not_finite, spans
from lightning_embed.merge.checkpoint.name_matching import Header, TensorInfo
from lightning_embed.merge.checkpoint.reader import ModelDirectory
from lightning_embed.merge.checkpoint.tied_weights import one_in_the_model, tied
from lightning_embed.merge.contract import STATISTICS, MergeStrategy, Plan
from lightning_embed.merge.diagnosis.geometry import Sums, measure
from lightning_embed.merge.layer_names import layer_of
from lightning_embed.merge.layer_rules import layer_scales
from lightning_embed.runtime.finite import is_finite
from lightning_embed.runtime.seeding import derive_seed

Piece = tuple[Shaped[Tensor, "..."], tuple[str, Sums] | None]
"""Elements of the merged model, and (layer, geometry of the block) where it is measured."""


@dataclass
class MergedModel:
    """Header and tensors of the result; with a base, `sums` is the geometry of the blocks computed so far, by layer.

    Args:
        strategy: how to merge.
        sources: models to merge, with common names.
        base: model that they started from.
        plan: of the strategy.
        dtype: of the floating tensors; None: that of the first source.
        seed: of random strategies.
        statistics: of each source; empty for strategies without statistics.
    """

    strategy: MergeStrategy
    sources: Sequence[ModelDirectory]
    base: ModelDirectory | None
    plan: Plan
    dtype: torch.dtype | None
    seed: int
    statistics: Sequence[ModelDirectory] = ()
    sums: dict[str, Sums] = field(init=False, default_factory=dict)

    @property
    def header(self) -> Header:
        """Dtype and shape of every tensor of the result."""
        first = self.sources[0]
        parameters = {
            name: TensorInfo(self.dtype or first.info(name).dtype, shape) for name, shape in first.parameters.items()
        }
        lent = {name: self._lent_info(model.info(name)) for name, model in self._lenders.items()}
        return parameters | {name: first.info(name) for name in first.buffers} | lent

    def pieces(self, names: Iterable[str]) -> Iterator[Shaped[Tensor, "..."]]:
        """Compute tensors, piece by piece and several pieces at a time.

        Raises:
            CheckpointError: NaN or infinity in a model or in the result.
            CheckpointMismatch: a tensor that is not floating, and differs between models.
            PluginError: the strategy returned a wrong shape or dtype.
        """
        for piece, measured in in_parallel(self._tasks(names)):
            if measured is not None:
                group, sums = measured
                self.sums[group] = self.sums[group] + sums if group in self.sums else sums
            yield piece

    def _tasks(self, names: Iterable[str]) -> Iterator[Callable[[], Piece]]:
        for name in names:
            if name in self._lenders:
                yield partial(self._lent, name)
            elif name in self.sources[0].parameters:
                unchanged = self._is_unchanged(name)
                for span in self._spans(name):
                    yield partial(self._merge, span, unchanged)
            else:
                yield partial(self._common, name)

    def _spans(self, name: str) -> Iterator[Span]:
        return spans(name, self.sources, self.base, self.strategy.cut, self.statistics)

    def _is_unchanged(self, name: str) -> bool:
        """Whether all sources equal the base: frozen parameters keep their bits, without rounding by the strategy."""
        return self.base is not None and not any(bool(span.read().deltas.any()) for span in self._spans(name))

    def _merge(self, span: Span, unchanged: bool) -> Piece:
        block = span.read()
        merged = block.base if unchanged and block.base is not None else self._merge_block(block)
        dtype = self.dtype or self.sources[0].info(block.name).dtype
        merged = merged.to(dtype)
        if not is_finite(merged):
            raise CheckpointError(
                f"merge={self.strategy.word} gives NaN or infinity in {block.name} as {dtype}. "
                "Change its options, or write out_dtype=float32."
            )
        return merged, (layer_of(block.name), measure(block, merged.float())) if self.base else None

    def _merge_block(self, block: Block) -> Float[Tensor, "..."]:
        seed = derive_seed(self.seed, self._tied.get(block.name, block.name), block.index)
        generator = torch.Generator().manual_seed(seed)
        plan = {**self.plan, STATISTICS: block.statistics} if block.statistics else self.plan
        merged = self.strategy.merge(block.name, block.tensors, block.base, plan, generator)
        expected = block.tensors[0]
        if merged.shape != expected.shape or merged.dtype != expected.dtype:
            raise PluginError(
                f"merge={self.strategy.word} must return {list(expected.shape)} {expected.dtype} for {block.name}, "
                f"got {list(merged.shape)} {merged.dtype}. Fix its merge()."
            )
        scale = self._scales[block.name]
        return merged if scale == 1 or block.base is None else torch.lerp(block.base, merged, scale)

    @cached_property
    def _scales(self) -> dict[str, float]:
        layers = self.strategy.layers or []
        return layer_scales(layers, self.sources[0].parameters, one_in_the_model(self.sources) if layers else {})

    @cached_property
    def _tied(self) -> dict[str, str]:
        return tied(self.sources)

    @cached_property
    def _models(self) -> list[ModelDirectory]:
        return [*self.sources, *([self.base] if self.base else [])]

    @cached_property
    def _lenders(self) -> dict[str, ModelDirectory]:
        return {name: model for model in self._models for name in model.names.lent}

    def _lent_info(self, info: TensorInfo) -> TensorInfo:
        return replace(info, dtype=self.dtype or info.dtype) if info.dtype.is_floating_point else info

    def _lent(self, name: str) -> Piece:
        """A tensor that some models lack, as it is in the model that lends it."""
        model = self._lenders[name]
        tensor = model.tensor(name).to(self._lent_info(model.info(name)).dtype)
        if tensor.is_floating_point() and not is_finite(tensor):
            raise not_finite(model.name, name)
        return tensor, None

    def _common(self, name: str) -> Piece:
        first = self.sources[0].tensor(name)
        for model in self._models[1:]:
            if not torch.equal(model.tensor(name), first):
                raise CheckpointMismatch(
                    f"{name} has {first.dtype} values, which cannot be averaged, and differs between "
                    f"{self.sources[0].name!r} and {model.name!r}. Make it equal, or leave one of the models out."
                )
        return first, None
