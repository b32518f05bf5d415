"""Weights that are divided among the ranks, by FSDP2: of every parameter a rank holds an equal share of its rows.

Each layer is gathered when it runs, and its gradient is averaged over ranks and divided again. Like `distributed`, these
functions act on an ordinary tensor as for one rank.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Shard, empty

from lightning_embed.runtime import distributed


def mesh_of(device: torch.device) -> Any:
    """All ranks in a row."""
    return init_device_mesh(device.type, (distributed.world_size(),))


def divide(module: nn.Module, mesh: Any) -> None:
    """Divide the parameters of a module that are not divided yet; a module in it that is divided stays a unit of its own.

    A unit is gathered whole when it runs, and freed after its forward pass and after its backward pass.
    """
    fully_shard(module, mesh=mesh, reshard_after_forward=True)


def is_shard(tensor: Any) -> bool:
    """Whether a tensor is divided among the ranks."""
    return isinstance(tensor, DTensor)


def local(tensor: Tensor) -> Tensor:
    """The rows of this rank."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """All rows, or the sum of what the ranks hold; all ranks call it, in the same order."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def kept_here(named: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors whose copies this rank keeps: its shards; of ordinary ones, which all ranks have, rank zero has all."""
    return {name: tensor for name, tensor in named if is_shard(tensor) or distributed.rank() == 0}


def empty_shard(shape: torch.Size, dtype: torch.dtype, mesh: Any) -> Tensor:
    """A tensor to be filled, divided as `divide` does."""
    return empty(shape, dtype=dtype, device_mesh=mesh, placements=[Shard(0)])
