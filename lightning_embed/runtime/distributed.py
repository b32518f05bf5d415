"""Process groups: the only module that uses torch.distributed. Without a group, every function acts as for one rank."""

import os
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from functools import cache
from typing import Any

import torch
import torch.distributed as torch_dist
from jaxtyping import Num
from torch import Tensor

from lightning_embed.runtime.peer_messages import PATIENCE

_FOR_EVER = timedelta(days=30)  # a rank that ends meanwhile ends all, see `peers`
_num_stores = 0


def store(address: str, port: int, *, is_first: bool) -> Any:
    """A store of texts that all ranks share, on the port on which the group will form; None: nobody answers there.

    Raises:
        RuntimeError: another program has the port.
    """
    global _num_stores
    is_host = is_first and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != str(True)
    if not is_host and not _answers(address, port):
        return None
    patience = timedelta(seconds=PATIENCE)
    found = torch_dist.TCPStore(  # type: ignore[attr-defined]
        address, port, None, is_host, patience, wait_for_workers=False, multi_tenant=True
    )
    found.set_timeout(_FOR_EVER)
    _num_stores += 1
    start = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")  # torchrun's own store keeps what an earlier start wrote
    return torch_dist.PrefixStore(f"lightning_embed/{start}/{_num_stores}", found)  # type: ignore[attr-defined]


def _answers(address: str, port: int) -> bool:
    begun = time.monotonic()
    while time.monotonic() < begun + PATIENCE:
        with suppress(OSError), socket.create_connection((address, port), timeout=5):
            return True
        time.sleep(0.2)
    return False


def form(rank: int, world_size: int, *, on_gpu: bool) -> None:
    """Form the group of all ranks, outside of a Trainer, on the address and the port in the environment."""
    torch_dist.init_process_group("nccl" if on_gpu else "gloo", rank=rank, world_size=world_size)


def is_active() -> bool:
    """Whether a process group is initialised."""
    return torch_dist.is_available() and torch_dist.is_initialized()


def rank() -> int:
    """Number of this process, from 0."""
    return torch_dist.get_rank() if is_active() else 0


def world_size() -> int:
    """Number of processes."""
    return torch_dist.get_world_size() if is_active() else 1


def leave() -> None:
    """Leave the process group; later calls act as for one rank."""
    if is_active():
        _group_of_cpus.cache_clear()
        _group_that_waits.cache_clear()
        torch_dist.destroy_process_group()


def barrier() -> None:
    """Wait for all processes."""
    if is_active():
        torch_dist.barrier()


def of_first(value: float) -> float:
    """`value` of rank zero, on every rank: for decisions that clocks, rounding or files would make differently."""
    if world_size() == 1:
        return value
    on_gpu = torch_dist.get_backend() == "nccl"
    broadcast = torch.tensor([value], dtype=torch.float64, device="cuda" if on_gpu else "cpu")
    torch_dist.broadcast(broadcast, src=0)
    return float(broadcast)


def largest(values: Sequence[int]) -> list[int]:
    """The largest of each value over ranks. It does not wait for a GPU, so that it may be asked after every step."""
    if world_size() == 1:
        return list(values)
    found = torch.tensor(values)
    torch_dist.all_reduce(found, torch_dist.ReduceOp.MAX, group=_group_of_cpus())
    return [int(value) for value in found]


def average_(values: Tensor) -> None:
    """Replace values by their mean over ranks."""
    if world_size() > 1:
        torch_dist.all_reduce(values)
        values /= world_size()


def ready_to_wait() -> None:
    """Form the group of `dealt` and `collected`, in which a rank may wait for ever; on all ranks at about the same time."""
    if is_active():
        _group_that_waits()


def dealt(parts: Sequence[Any] | None = None) -> Any:
    """The part of this rank, of those that rank zero gives; the other ranks wait for it as long as it takes."""
    part = [None]
    torch_dist.scatter_object_list(part, None if parts is None else list(parts), src=0, group=_group_that_waits())
    return part[0]


def collected(part: Any) -> list[Any]:
    """The parts of all ranks, on rank zero, in rank order; empty on the others."""
    parts: list[Any] = [None] * world_size() if rank() == 0 else []
    torch_dist.gather_object(part, parts or None, dst=0, group=_group_that_waits())
    return parts


@cache
def _group_that_waits() -> Any:
    return torch_dist.new_group(backend="gloo", timeout=_FOR_EVER)


@cache
def _group_of_cpus() -> Any:
    return torch_dist.new_group(backend="gloo")


def counts(values: Sequence[int]) -> list[list[int]]:
    """The values of every rank, in rank order. It does not wait for a GPU: what it has to do may still be queued."""
    if world_size() == 1:
        return [list(values)]
    parts = [torch.empty(len(values), dtype=torch.int64) for _ in range(world_size())]
    torch_dist.all_gather(parts, torch.tensor(values), group=_group_of_cpus())
    return [part.tolist() for part in parts]


def gather(tensor: Num[Tensor, "local ..."], counts: list[int]) -> Num[Tensor, "all ..."]:
    """Concatenate the tensors of all ranks along the first dimension, in rank order; `counts` are their lengths.

    Gradients flow to the rank that a row came from, summed over the losses of all ranks. With a loss whose mean over
    ranks is the global loss, and gradients averaged over ranks (DDP), they are the exact gradients of the global loss:

                      rank 0  rank 1               rows of rank 0   rows of rank 1
        forward         a       b       ->  both:        a                b
        backward      dL0/da  dL0/db   (rank 0)     rank 0 gets dL0/da + dL1/da
                      dL1/da  dL1/db   (rank 1)     rank 1 gets dL0/db + dL1/db
    """
    return tensor if world_size() == 1 else _Gather.apply(tensor, counts)  # type: ignore[no-untyped-call]


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, counts: list[int]) -> Tensor:
        ctx.counts = counts
        padded = tensor.new_zeros(max(counts), *tensor.shape[1:])
        padded[: len(tensor)] = tensor
        parts = [torch.empty_like(padded) for _ in counts]
        torch_dist.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        grad = grad.contiguous()
        torch_dist.all_reduce(grad)
        start = sum(ctx.counts[: rank()])
        return grad[start : start + ctx.counts[rank()]], None
