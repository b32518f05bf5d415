"""The numbers of losses that are trained with the encoder: parameters of the module, in its checkpoints, never exported."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer

from lightning_embed.loss import Loss
from lightning_embed.loss.base import Learned
from lightning_embed.types import Task


class LearnedNumbers(nn.Module):
    """One scalar parameter for each learned number of the loss of each task.

    Args:
        losses: the loss of each task.
    """

    def __init__(self, losses: Mapping[Task, Loss]) -> None:
        super().__init__()
        self._losses = losses
        self.of_task = nn.ModuleDict(
            {
                str(task): nn.ParameterDict({name: torch.tensor(each.start) for name, each in loss.learned.items()})
                for task, loss in losses.items()
                if loss.learned
            }
        )
        self.register_load_state_dict_pre_hook(_keep_own)  # type: ignore[no-untyped-call]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "LearnedNumbers":
        """Move them with the module, but not to 16 bits (trainer.precision=bf16-true), in which no step would change them."""

        def moved(tensor: Tensor) -> Tensor:
            changed = fn(tensor)
            return changed if changed.dtype.itemsize >= 4 else tensor.to(changed.device)

        super()._apply(moved, recurse)  # type: ignore[no-untyped-call]
        return self

    def of(self, task: Task) -> dict[str, Tensor]:
        """The numbers of a task's loss, by name."""
        return dict(self.of_task[task].items()) if task in self.of_task else {}  # type: ignore[operator]

    def held_in(self, value: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """The same value, with a gradient of zero at every number: DDP waits for one at each, whatever the task."""
        return sum((0 * number for number in self.parameters()), value)

    def add_to(self, optimizer: Optimizer) -> None:
        """Let an optimiser train them, each at its own rate and without weight decay."""
        for number, each in self._each():
            optimizer.add_param_group({"params": [number], "lr": each.lr, "weight_decay": 0.0})

    @torch.no_grad()
    def clamp(self) -> None:
        """Bring them back within their bounds, after a step."""
        for number, each in self._each():
            number.clamp_(each.low, each.high)

    def _each(self) -> Iterator[tuple[Tensor, Learned]]:
        for task, loss in self._losses.items():
            numbers = self.of(task)
            yield from ((numbers[name], each) for name, each in loss.learned.items())


def _keep_own(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Of a checkpoint, only the numbers of these losses; those that it lacks stay at their start."""
    own = module.state_dict(prefix=prefix)
    for key in state.keys() - own.keys():
        del state[key]
    state.update({key: own[key] for key in own.keys() - state.keys()})
