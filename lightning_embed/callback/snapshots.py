"""Additional sources from one training: snapshots at given steps, and an average of the weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging

from lightning_embed.runtime import distributed


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
        pl_module.check_finite()  # type: ignore[operator]  # on all ranks, because the export is on one
        if distributed.rank() == 0:
            pl_module.encoder.export(self.targets[trainer.global_step])  # type: ignore[operator, union-attr]


class ExponentialAverage(EMAWeightAveraging):
    """Exponential moving average of the weights, kept beside the training and saved as a model of its own.

    Lightning's callback replaces the model by the average, for validation and at the end. Here the two are different
    sources, and the dev loss is that of the expert.

    Args:
        decay: share of the average that a step keeps, in (0, 1).
        target: directory of the averaged model.
    """

    def __init__(self, decay: float, target: Path) -> None:
        super().__init__(decay=decay)
        self.target = target

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validate the expert itself."""

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """No weights were swapped."""

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the expert as it is."""

    def export(self, pl_module: LightningModule) -> None:
        """Save the average."""
        self._swap_models(pl_module)
        pl_module.encoder.export(self.target)  # type: ignore[operator, union-attr]
        self._swap_models(pl_module)
