"""The numbers of losses that are trained with the encoder: parameters of the module, in its checkpoints, never exported."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lightning_embed.loss import Loss
from lightning_embed.loss.base import Learned
from lightning_embed.loss.choice import key_of
from lightning_embed.types import Task


class LearnedNumbers(nn.Module):
    """One scalar parameter for each learned number of each loss.

    Args:
        losses: task, or name of a dataset with a loss of its own -> loss.
    """

    def __init__(self, losses: Mapping[str, Loss]) -> None:
        super().__init__()
        self._losses = losses
        self.of_loss = nn.ModuleDict(
            {
                _name(key): nn.ParameterDict({name: torch.tensor(each.start) for name, each in loss.learned.items()})
                for key, loss in losses.items()
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

    def of(self, dataset: str, task: Task) -> dict[str, Tensor]:
        """The numbers of a dataset's loss, by name."""
        return self._of_key(key_of(self._losses, dataset, task))

    def _of_key(self, key: str) -> dict[str, Tensor]:
        return dict(self.of_loss[_name(key)].items()) if _name(key) in self.of_loss else {}  # type: ignore[operator]

    def held_in(self, value: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """The same value, with a gradient of zero at every number: DDP waits for one at each, whatever the task."""
        return sum((0 * number for number in self.parameters()), value)

    def rates(self, prefix: str) -> dict[str, float]:
        """The learning rate of each parameter, by its name in a module that holds this one as `prefix`."""
        return {
            f"{prefix}.of_loss.{_name(key)}.{name}": each.lr
            for key, loss in self._losses.items()
            for name, each in loss.learned.items()
        }

    @torch.no_grad()
    def clamp(self) -> None:
        """Bring them back within their bounds, after a step."""
        for number, each in self._each():
            number.clamp_(each.low, each.high)

    def _each(self) -> Iterator[tuple[Tensor, Learned]]:
        for key, loss in self._losses.items():
            numbers = self._of_key(key)
            yield from ((numbers[name], each) for name, each in loss.learned.items())


def _name(key: str) -> str:
    """A key as a name in torch, which has no dots; no dataset's name has a slash."""
    return str(key).replace(".", "/")


def _keep_own(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Of a checkpoint, only the numbers of these losses; those that it lacks stay at their start."""
    own = module.state_dict(prefix=prefix)
    for key in state.keys() - own.keys():
        del state[key]
    state.update({key: own[key] for key in own.keys() - state.keys()})
