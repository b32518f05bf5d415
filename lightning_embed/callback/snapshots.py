"""Additional sources from one training: snapshots at given steps, and an average of the weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor


class Snapshots(Callback):
    """Saves the encoder as a model directory after given steps.

    It must precede the callback that saves checkpoints, so that no checkpoint is ahead of a missing snapshot.

    Args:
        targets: step -> directory of the model.
    """

    def __init__(self, targets: Mapping[int, Path]) -> None:
        self.targets = targets

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save after the given steps."""
        if trainer.global_step not in self.targets:
            return
        pl_module.check_finite()  # type: ignore[operator]  # on all ranks, because one writes
        pl_module.export(self.targets[trainer.global_step])  # type: ignore[operator]


class ExponentialAverage(Callback):
    """Exponential moving average of the trained weights, kept beside the training and saved as a model of its own.

        after the first step    average = weights
        after each other one    average = decay average + (1 - decay) weights

    Where the model is sharded, so is its average. Lightning's EMAWeightAveraging keeps a second model whole, and makes
    it the result.

    Args:
        decay: share of the average that a step keeps, in (0, 1).
        target: directory of the averaged model.
    """

    def __init__(self, decay: float, target: Path) -> None:
        self.decay = decay
        self.target = target
        self.average: dict[str, Tensor] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Move an average from a checkpoint to the device of the weights."""
        self.average = {name: weight.to(pl_module.device) for name, weight in self.average.items()}

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add the weights after a step."""
        weights = {name: p.detach() for name, p in pl_module.encoder.named_parameters() if p.requires_grad}  # type: ignore[union-attr]
        if not self.average:
            self.average = {name: weight.clone() for name, weight in weights.items()}
        for name, weight in self.average.items():
            weight.lerp_(weights[name], 1 - self.decay)

    def export(self, pl_module: LightningModule) -> None:
        """Save the average; all ranks call it."""
        pl_module.export(self.target, self.average)  # type: ignore[operator]

    def state_dict(self) -> dict[str, Any]:
        """The state for the checkpoint."""
        return {"average": self.average}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        self.average = state_dict["average"]
