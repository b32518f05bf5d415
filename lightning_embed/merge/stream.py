"""Reading all models of a merge side by side, a block at a time: how `prepare` and the engine see them."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_embed.errors import CheckpointError
from lightning_embed.merge.contract import Model

# Elements of a block: small enough for the block of all sources to stay in the processor's cache. A constant, because
# a random strategy draws anew for each block: another size would be another merge.
BLOCK_ELEMENTS = 65_536


@dataclass(frozen=True)
class Block:
    """The same elements of one parameter in all models, in float32."""

    name: str
    index: int  # of the block in its parameter
    tensors: Float[Tensor, " sources *shape"]
    base: Float[Tensor, "*shape"] | None

    @property
    def deltas(self) -> Float[Tensor, " sources *shape"]:
        """Sources minus base; without a base, the sources."""
        return self.tensors if self.base is None else self.tensors - self.base


def read_blocks(name: str, sources: Sequence[Model], base: Model | None, elementwise: bool = True) -> Iterator[Block]:
    """Yield the parameter `name` of all models in flat blocks, or, if not `elementwise`, as one block in its own shape.

    Raises:
        CheckpointError: a model has NaN or infinity in it.
    """
    models = [*sources, base] if base else sources
    stored = [model.tensor(name) for model in models]
    if elementwise:
        stored = [tensor.flatten() for tensor in stored]
    size = BLOCK_ELEMENTS if elementwise else sys.maxsize
    for index, start in enumerate(range(0, stored[0].numel(), size)):
        part = slice(start, start + size)
        values = torch.stack([(tensor[part] if elementwise else tensor).float() for tensor in stored])
        if not is_finite(values):
            _refuse(name, models, values)
        yield Block(name, index, values[: len(sources)], values[-1] if base else None)


@contextmanager
def single_threaded() -> Iterator[None]:
    """Keep torch to one thread while blocks stream.

    Threads that meet after each small block gain little, and on a busy machine they wait for one another without end:
    four models of 438 MB took 63 s instead of 2.5 s beside five busy processes on two cores.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def is_finite(values: Float[Tensor, "..."]) -> bool:
    """Whether there is neither NaN nor infinity. A sum is four times as fast to look at, and right unless it overflows."""
    return bool(values.sum(dtype=torch.float32).isfinite()) or bool(values.isfinite().all())


def _refuse(name: str, models: Sequence[Model], values: Float[Tensor, " models *shape"]) -> None:
    broken = next(model.name for model, value in zip(models, values, strict=True) if not value.isfinite().all())
    raise CheckpointError(f"{broken!r} has NaN or infinity in {name}. Leave it out of the merge, or export it again.")
