"""Detection of a training that diverges: a loss or a gradient norm with NaN or infinity stops it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_embed.errors import TrainingError
from lightning_embed.runtime import distributed

READ_EVERY = 20
"""Steps between two reads of a device, each of which waits for it."""
REMEDY = (
    "Try a lower optimizer.lr, a longer scheduler.warmup_share, max_grad_norm=1, encoder.dtype=float32 or a higher "
    "temperature of the loss."
)
KEPT = "No model is exported, and the checkpoint of an earlier step is kept, if one was saved."


@dataclass(frozen=True)
class Measured:
    """The numbers of a training step or of a dev batch, on their device.

    Args:
        step: number of the step, from 1; of a dev batch, the steps before it.
        losses: dataset -> loss.
        norm: norm of the gradient before clipping; None: a dev batch.
        rate: learning rate of the step.
    """

    step: int
    losses: Mapping[str, Tensor]
    norm: Tensor | None = None
    rate: float | Tensor = 0.0

    @property
    def values(self) -> list[Tensor]:
        """All numbers: the losses, then the norm."""
        return [*self.losses.values(), *([] if self.norm is None else [self.norm])]

    def message(self, values: Sequence[float]) -> str:
        """The sentence about this step, whose numbers are `values`."""
        names = ", ".join(self.losses)
        if self.norm is None:
            return f"The dev loss of {names} is {values[0]:.4g} after step {self.step}, expected a finite number."
        losses = ", ".join(f"{value:.4g}" for value in values[:-1])
        return (
            f"The training diverged at step {self.step} ({names}; learning rate {float(self.rate):.3g}): expected "
            f"finite numbers, got loss {losses} and gradient norm {values[-1]:.4g}."
        )


class DivergenceGuard:
    """Collects the numbers of steps and reads them together, so that no step waits for a GPU.

    A single process on a CPU reads them at every step. Several processes read at the same steps, and all of them raise
    if one of them has NaN or infinity.
    """

    def __init__(self) -> None:
        self._unread: list[Measured] = []

    def note(self, measured: Measured) -> None:
        """Keep the numbers of a step; read them if it is time.

        Raises:
            TrainingError: see `check`.
        """
        self._unread.append(measured)
        if measured.norm is not None and not (measured.step % READ_EVERY and _waits(measured)):
            self.check()

    def check(self) -> None:
        """Read all numbers that were not read yet; every rank calls it at the same steps.

        Raises:
            TrainingError: a number is NaN or infinite; the message names the first such step.
        """
        unread, self._unread = self._unread, []
        if not unread:
            return
        rows = _of_all_ranks([value for measured in unread for value in measured.values])
        for measured in unread:
            count = len(measured.values)
            own, rows = rows[:count], rows[count:]
            if not all(math.isfinite(value) for row in own for value in row):
                values = [sum(row) / len(row) for row in own]  # the mean over ranks
                raise TrainingError(f"{measured.message(values)} {KEPT} {REMEDY}")


def _waits(measured: Measured) -> bool:
    """Whether a read waits for a device or for other processes."""
    return distributed.world_size() > 1 or any(value.device.type != "cpu" for value in measured.values)


def _of_all_ranks(values: Sequence[Float[Tensor, ""]]) -> list[list[float]]:
    """The value of every rank, for each value; one transfer from the device."""
    stacked = torch.stack([value.detach().float() for value in values])
    gathered = distributed.gather(stacked, [len(values)] * distributed.world_size())
    found: list[list[float]] = gathered.view(distributed.world_size(), -1).T.tolist()
    return found
