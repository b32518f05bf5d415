"""Writes a finished expert as a model directory."""

import os
import shutil
from pathlib import Path

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from lightning_embed.encoder import Encoder


def export(encoder: Encoder, target: Path) -> None:
    """Save `encoder` as `target`, whole or not at all: a directory that exists is a finished model."""
    temporary = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.parent.mkdir(parents=True, exist_ok=True)
    encoder.save(temporary)
    os.replace(temporary, target)


class Export(Callback):
    """Saves the encoder when its training has ended.

    Args:
        target: the model directory.
    """

    def __init__(self, target: Path) -> None:
        self.target = target

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Rank zero writes."""
        if trainer.is_global_zero:
            export(pl_module.encoder, self.target)  # type: ignore[arg-type]
