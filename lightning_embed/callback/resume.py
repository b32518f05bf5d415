"""Checkpoints for resuming: one file, replaced atomically."""

import os
import time
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback

from lightning_embed.runtime import distributed, fault_injection, signals

FILE = "last.ckpt"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Saves beside the target, flushes to the disk, then replaces the target atomically.

    Lightning's own save writes to the system's temporary folder and copies: a kill or a full disk leaves half a file.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write `checkpoint` to `path`."""
        del storage_options
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_suffix(".tmp")
        try:
            with temporary.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            fault_injection.point("before_replace")
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a checkpoint; its Python objects are trusted, because this run wrote it."""
        del weights_only
        checkpoint: dict[str, Any] = torch.load(path, map_location=map_location or "cpu", weights_only=False)
        return checkpoint


class ResumeCheckpoint(Callback):
    """Saves the whole training state every few minutes, and before a signal ends the training, always in the same file.

    Lightning's ModelCheckpoint (2.6.6) ignores its time interval under manual optimisation.

    Args:
        folder: folder of `last.ckpt`.
        minutes: time between two saves.
    """

    def __init__(self, folder: Path, minutes: float) -> None:
        self.file = folder / FILE
        self.seconds = 60 * minutes

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Keep our handlers of signals: those of Lightning end a training with status 0, or with a collective."""
        trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
        signals.started()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """At a stop, the ranks end by themselves."""
        if isinstance(exception, signals.Stopped):
            signals.release()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self.last = time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save if the interval is over on any rank, and if any rank received a signal, by which all of them stop.

        Raises:
            Stopped: a signal was received; the checkpoint is saved.
        """
        is_due, signum = distributed.largest([time.monotonic() - self.last >= self.seconds, signals.received()])
        if is_due or signum:
            trainer.save_checkpoint(self.file)
            self.last = time.monotonic()
        if signum:
            datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
            num_steps = datamodule.num_steps(trainer.max_steps, trainer.max_epochs)
            raise signals.Stopped(signum, f"in {self.file.parent.name} at step {trainer.global_step} of {num_steps}")
