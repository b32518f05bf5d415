"""The hooks of a module that stop a training which diverges, before its weights are used or saved."""

from typing import Any

from lightning import LightningModule

from lightning_embed.encoder import Encoder
from lightning_embed.errors import TrainingError
from lightning_embed.runtime import distributed, shards
from lightning_embed.training.divergence import KEPT, REMEDY, DivergenceGuard


class FiniteChecks(LightningModule):
    """Stops a training with NaN or infinity in a loss, a gradient norm or a weight."""

    encoder: Encoder

    def __init__(self) -> None:
        super().__init__()
        self.guard = DivergenceGuard()

    def check_finite(self) -> None:
        """Stop a training that diverged; every rank calls it at the same steps, before the weights are used or saved.

        Raises:
            TrainingError: NaN or infinity in a loss, in the norm of a gradient, or in a weight.
        """
        self.guard.check()
        problem = self.encoder.not_finite()
        if any(distributed.largest([problem is not None])):  # no rank waits for one that stopped
            step, found = self.trainer.global_step, problem or "a different rank found NaN or infinity"
            raise TrainingError(f"The training diverged: after step {step} {found}. {KEPT} {REMEDY}")

    def on_validation_start(self) -> None:
        """Measure no dev loss of weights that are not finite."""
        self.check_finite()

    def on_validation_end(self) -> None:
        """Refuse a dev loss that is not finite."""
        self.guard.check()

    def on_train_end(self) -> None:
        """Check the last step, before the model is exported."""
        self.check_finite()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:  # noqa: ARG002
        """Save only weights that are finite."""
        self.check_finite()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint, of an earlier version, with weights that are not finite."""
        for name, value in checkpoint["state_dict"].items():
            if not shards.whole(value.isfinite().all()):
                place = f" {self.trainer.ckpt_path}" if self._trainer is not None else ""
                raise TrainingError(
                    f"The checkpoint{place} has NaN or infinity in {name}: its training diverged. Delete it. {REMEDY}"
                )
