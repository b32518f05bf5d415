"""The ranks of a run: where each stands, their watch over each other (`runtime.peers`), and the group that they form.

Whoever starts them, torchrun, srun, Lightning or people on several machines, they meet before anything is prepared, on
the address and the port of the group. Those that Lightning starts come later, when the first one has prepared the run.
"""

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from types import SimpleNamespace
from typing import Any

import torch
from lightning import Trainer
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.strategies import ParallelStrategy
from omegaconf import DictConfig

from lightning_embed.config.identity import resolved_hash
from lightning_embed.config.queries import num_ranks
from lightning_embed.errors import ConfigError
from lightning_embed.run import build
from lightning_embed.runtime import distributed, launched, peers, signals
from lightning_embed.runtime.peer_messages import unreachable

_place: "Place | None" = None
_FOR_CHILDREN = 600.0  # seconds: they import everything first; one that ends meanwhile is noticed at once


@dataclass(frozen=True)
class Place:
    """The place of a process among the ranks of a run.

    Args:
        environment: says how the ranks find each other.
        rank: of this process.
        world_size: number of ranks.
        started: ranks that start with this one.
        gpu: number of the GPU of this rank; None: it has none.
        trainer: starts the other ranks of this machine, in a training.
    """

    environment: ClusterEnvironment
    rank: int
    world_size: int
    started: Sequence[int]
    gpu: int | None
    trainer: Trainer | None = None


def of_training(cfg: DictConfig) -> Place | None:
    """The place in a training; None: it trains in one process."""
    if num_ranks(cfg) == 1:
        if (started := launched.by_torchrun()) > 1:
            raise ConfigError(
                f"torchrun started {started} processes, and the trainer has one: give "
                "trainer.devices=<processes of a machine> trainer.num_nodes=<machines>."
            )
        return None
    with resolved_hash(""):
        trainer = build.trainer(cfg, [], Path(cfg.out))
    strategy = trainer.strategy
    if not isinstance(strategy, ParallelStrategy) or not isinstance(strategy.launcher, signals.HasProcesses):
        return None
    environment: Any = strategy.cluster_environment
    alone, per_node = not environment.creates_processes_externally, trainer.world_size // trainer.num_nodes
    started = range(0, trainer.world_size, per_node if alone else 1)
    gpu = strategy.root_device.index if strategy.root_device.type == "cuda" else None
    return Place(environment, trainer.global_rank, trainer.world_size, started, gpu, trainer)


def of_torchrun() -> Place:
    """The place among the processes that torchrun started."""
    environment = TorchElasticEnvironment()
    size, gpu = environment.world_size(), environment.local_rank() if torch.cuda.is_available() else None
    return Place(environment, environment.global_rank(), size, range(size), gpu)


@contextmanager
def together(place: Place | None) -> Iterator[None]:
    """Watch over the ranks, from here to the end of the block: the end of one ends all.

    Raises:
        ConfigError: this rank does not find the first one.
    """
    global _place
    _place = place
    if place is None:
        yield
        return
    address, port = place.environment.main_address, place.environment.main_port
    with _variables(MASTER_ADDR=address, MASTER_PORT=str(port)):  # one port for all that follows
        if place.gpu is not None:
            torch.cuda.set_device(place.gpu)  # what "cuda" means from here on
        try:
            store = distributed.store(address, port, is_first=place.rank == 0)
            if store is None:
                raise unreachable(address, port, place.rank, place.world_size)
            peers.watch(place.rank, place.world_size, store, address, place.started)
        except TimeoutError as error:
            raise ConfigError(str(error)) from None
        except RuntimeError as error:
            raise ConfigError(f"MASTER_PORT={port} serves another program ({error}). Give a free port.") from None
        try:
            yield
        finally:
            _place = None
        distributed.leave()
        peers.leave()


@contextmanager
def _variables(**values: str) -> Iterator[None]:
    """Variables of the environment in a block; afterwards, other programs that this one starts get none of them."""
    before = {name: os.environ.get(name) for name in values}
    os.environ |= values
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def form_group() -> None:
    """Start the other ranks of this machine where nobody else does, and form the group of all ranks, once."""
    place = _place
    if place is None or distributed.is_active():
        return
    signals.starting()  # a rank that waits for others in the group's own code cannot be asked
    if place.trainer is None:
        distributed.form(place.rank, place.world_size, on_gpu=place.gpu is not None)
    else:
        strategy: Any = place.trainer.strategy
        strategy.launcher.launch(lambda: _started(place, strategy), trainer=place.trainer)
    signals.started()


def _started(place: Place, strategy: Any) -> None:
    processes = list(strategy.launcher.procs)
    strategy.launcher.procs.clear()  # Lightning would kill this process too when one of them ends: so does our watch
    signals.launchers.append(SimpleNamespace(procs=processes))
    peers.expect(range(place.rank + 1, place.rank + 1 + len(processes)), _FOR_CHILDREN)
    for number, process in enumerate(processes, start=place.rank + 1):
        threading.Thread(target=_wait, args=(number, process), daemon=True, name=f"rank {number}").start()
    strategy.setup_environment()


def _wait(rank: int, process: "Popen[Any]") -> None:
    if process.wait():
        peers.child_ended(rank, process.pid)
