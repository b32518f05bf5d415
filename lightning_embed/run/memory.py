"""Memory of a training: weights as they are stored, and gradients and optimiser states of what trains."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

_SIDE = 64  # of the matrix whose states are counted


@dataclass(frozen=True)
class Memory:
    """Bytes that a training holds from its first step to its last, without activations.

    Args:
        weights: of all weights and buffers, frozen ones and adapters included.
        gradients: of the weights that train.
        states: of the optimiser, for those weights.
    """

    weights: int
    gradients: int
    states: int


def held(model: nn.Module, make_optimizer: Callable[[Iterable[Any]], Optimizer]) -> Memory:
    """The memory of a model and an optimiser of its trainable weights."""
    trained = sum(p.nbytes for p in model.parameters() if p.requires_grad)
    weights = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
    return Memory(weights, trained, round(trained * _states_per_byte(make_optimizer)))


def _states_per_byte(make_optimizer: Callable[[Iterable[Any]], Optimizer]) -> float:
    """Bytes of states for each byte of a weight, counted after a step with a small matrix."""
    matrix = nn.Parameter(torch.zeros(_SIDE, _SIDE))
    optimizer = make_optimizer([matrix])
    matrix.grad = torch.ones_like(matrix)
    optimizer.step()
    tensors = [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
    return sum(tensor.nbytes for tensor in tensors if tensor.numel() > 1) / matrix.nbytes


def gibibytes(size: float) -> str:
    """A size for people: 3.2 GiB, or 4 MiB where it is small."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 / 10 else f"{size / 2**20:.3g} MiB"
