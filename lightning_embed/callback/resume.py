"""Checkpoints for resuming: one file, of tensors, numbers and texts, replaced atomically."""

import pickle
import time
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback

from lightning_embed.errors import CheckpointError
from lightning_embed.runtime import distributed, fault_injection, signals
from lightning_embed.storage import checkpoint_file, mirroring, sharded_checkpoint
from lightning_embed.storage.publish import published_file

FILE = "last.ckpt"
_OWNER = "lightning_embed"
_REMEDY = "Delete it: the training starts again from its beginning."
_KEYS = {"state_dict", "loops", "optimizer_states", "lr_schedulers", "callbacks", "global_step"}


class AtomicCheckpointIO(TorchCheckpointIO):
    """Publishes a checkpoint whole, and reads tensors, numbers and texts only.

    Lightning's own save writes to the system's temporary folder and copies: a kill or a full disk leaves half a file. A
    pickle of other objects can run code, so none is written, and none is opened.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write `checkpoint` to `path`.

        Raises:
            CheckpointError: it has objects of other classes; or the disk is full.
        """
        del storage_options
        with published_file(Path(path)) as partial:
            with partial.open("wb") as file:
                torch.save(checkpoint, file)
            try:
                torch.load(partial, weights_only=True, mmap=True)
            except pickle.UnpicklingError as error:
                raise CheckpointError(
                    f"{path}: expected tensors, numbers and texts in the state of every callback, optimiser and "
                    f"scheduler, found more ({checkpoint_file.reason(error)}). Give plain values in its state_dict."
                ) from None
            fault_injection.point("before_replace")

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a checkpoint.

        Raises:
            CheckpointError: the file is cut, empty, no checkpoint, or has objects of other classes.
        """
        del weights_only
        if Path(path).is_dir():
            raise CheckpointError(
                f"{path} is the checkpoint of a sharded training: expected a file. Go on with trainer.strategy=fsdp, or "
                "delete it: the training starts again from its beginning."
            )
        return read(Path(path), map_location=map_location or "cpu")


class Owner(Callback):
    """Marks the checkpoints of a training, so that no other training goes on from them.

    Args:
        mark: of the run and the expert.
    """

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the mark."""
        checkpoint[_OWNER] = self.mark


def resumable(file: Path, module: LightningModule, owner: str) -> str | None:
    """The path of the checkpoint of a training; None: there is none, and the training starts.

    Args:
        file: of the checkpoint.
        module: to be trained.
        owner: mark of its training, see `Owner`.

    Raises:
        CheckpointError: the file is not a whole checkpoint of this training.
    """
    if not file.exists():
        return None
    checkpoint = read(file, mmap=True)
    if missing := sorted(_KEYS - checkpoint.keys()):
        raise _broken(file, f"is not a checkpoint of a training: expected {missing[0]} in it")
    if checkpoint.get(_OWNER) != owner:
        raise _broken(file, "is the checkpoint of another run, expert or version")
    expected = {name: tensor.shape for name, tensor in module.state_dict().items()}
    found = {name: tensor.shape for name, tensor in checkpoint["state_dict"].items()}
    for name in sorted({*expected, *found}):
        if expected.get(name) != found.get(name):
            shapes = [list(of[name]) if name in of else "nothing" for of in (expected, found)]
            raise _broken(file, f"belongs to another model: expected {shapes[0]} for {name}, found {shapes[1]}")
    return str(file)


def read(file: Path, **options: Any) -> dict[str, Any]:
    """Read the checkpoint of a run, see `checkpoint_file.read`; of a sharded one, its tensors without their values."""
    if file.is_dir():
        return sharded_checkpoint.outline(file, _REMEDY)
    return checkpoint_file.read(file, _REMEDY, **options)


def _broken(file: Path, reason: str) -> CheckpointError:
    return CheckpointError(f"{file} {reason}. {_REMEDY}")


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
        # nor is a GPU asked at every step, over all ranks, whether one of those received a signal: see on_train_batch_end
        trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]
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
            mirroring.published()
            self.last = time.monotonic()
        if signum:
            datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
            num_steps = datamodule.num_steps(trainer.max_steps, trainer.max_epochs)
            place = f"in {self.file.parent.name} at step {trainer.global_step} of {num_steps}"
            raise signals.Stopped(signum, place, by_all=True)
