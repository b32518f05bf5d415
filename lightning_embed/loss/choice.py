"""The loss of a dataset: its own, or that of its task."""

from collections.abc import Mapping
from types import MappingProxyType

from lightning_embed.errors import ConfigError
from lightning_embed.loss.base import Loss
from lightning_embed.types import Task

_NONE: Mapping[str, Task] = MappingProxyType({})


def loss_of(losses: Mapping[str, Loss], dataset: str, task: Task) -> Loss:
    """The loss of a dataset; see `key_of`."""
    return losses[key_of(losses, dataset, task)]


def key_of(losses: Mapping[str, Loss], dataset: str, task: Task) -> str:
    """The key of a dataset's loss.

    Args:
        losses: task, or name of a dataset with a loss of its own -> loss. A name that is a task's stands for the task.
        dataset: name of the dataset.
        task: its task.
    """
    return dataset if dataset in losses and dataset not in set(Task) else task


def check_losses(losses: Mapping[str, Loss], own: Mapping[str, Task] = _NONE) -> None:
    """Refuse a loss that does not support its task.

    Args:
        losses: task, or name of a dataset -> loss.
        own: name of each dataset with a loss of its own -> its task.

    Raises:
        ConfigError: naming the loss, the task and the tasks that the loss supports.
    """
    for name, loss in losses.items():
        if name not in own and name not in set(Task):
            continue
        task, where = (own[name], f"data.datasets.{name}.loss: ") if name in own else (Task(name), "")
        if task not in loss.tasks:
            grouped = ", or set in_batch=false (loss@label_loss=infonce_grouped)"
            raise ConfigError(
                f"{where}{type(loss).__name__} cannot train {task}: it supports {', '.join(sorted(loss.tasks))}. "
                f"Choose a different loss{grouped if getattr(loss, 'in_batch', False) else ''}."
            )
