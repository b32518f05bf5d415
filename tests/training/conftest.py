"""The data that the tests of this room share, and a trained module's checkpoint."""

import warnings
from pathlib import Path

import pytest
from lightning.pytorch.callbacks import ModelCheckpoint

from tests.toy import write_toy
from tests.training.lightning import made, trainer


@pytest.fixture(scope="session")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy(tmp_path_factory.mktemp("rows"))


@pytest.fixture(scope="session")
def checkpoint(tiny_model: Path, rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of Lightning's own ModelCheckpoint and its own way to save, after three of six steps."""
    folder = tmp_path_factory.mktemp("trained")
    kept = ModelCheckpoint(folder, filename="{step}", every_n_train_steps=3, save_top_k=-1)
    module, data = made(tiny_model, rows)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning warns of few workers, and of weights after a step
        trainer(folder, enable_checkpointing=True, callbacks=[kept], limit_val_batches=0).fit(module, data)
    return folder / "step=3.ckpt"
