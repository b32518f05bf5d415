"""A short joint training of the tiny encoder on two tasks, with callbacks."""

import csv
from functools import partial
from pathlib import Path

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger

from lightning_embed import DatasetOptions, EmbeddingDataModule, EmbeddingModule, load_datasets
from lightning_embed.encoder import Encoder, EncoderOptions
from lightning_embed.encoder.options import Dtype
from lightning_embed.loss.cosent import CoSENT
from lightning_embed.loss.infonce import InfoNCE
from lightning_embed.sampler.round_robin import RoundRobin
from lightning_embed.types import Task

TASKS = {"pairs": Task.retrieval, "scores": Task.sts}


def toy_training(
    model: Path, data: Path, *names: str, dtype: Dtype = Dtype.float32
) -> tuple[EmbeddingModule, EmbeddingDataModule]:
    """Module and data of the named toy datasets, all of them by default; every call gives the same."""
    options = {
        name: DatasetOptions(TASKS[name], str(data / name), batch_size=8, num_negatives=2) for name in names or TASKS
    }
    encoder = Encoder(EncoderOptions(str(model), dtype=dtype, max_tokens=64))
    losses = {Task.retrieval: InfoNCE(temperature=0.1), Task.sts: CoSENT()}
    module = EmbeddingModule(encoder, losses, partial(torch.optim.SGD, lr=0.1))
    return module, EmbeddingDataModule(load_datasets(options, cache=data / "cache"), encoder, RoundRobin())


def fit(module: EmbeddingModule, data: EmbeddingDataModule, out: Path, *callbacks: Callback, ranks: int = 1) -> None:
    """Four steps, a validation after the second and the last."""
    Trainer(
        accelerator="cpu", devices=ranks, strategy="ddp" if ranks > 1 else "auto", max_steps=4, max_epochs=-1,
        logger=CSVLogger(out, name=""), callbacks=list(callbacks), enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False, num_sanity_val_steps=0,
        val_check_interval=2, check_val_every_n_epoch=None, log_every_n_steps=3,
    ).fit(module, data)  # fmt: skip


def logged(out: Path, prefix: str) -> dict[int, dict[str, float]]:
    """What stands in metrics.csv: step -> metric -> value."""
    found: dict[int, dict[str, float]] = {}
    with (out / "version_0" / "metrics.csv").open() as file:
        for row in csv.DictReader(file):
            numbers = {key: float(value) for key, value in row.items() if key.startswith(prefix) and value}
            if numbers:
                found.setdefault(int(row["step"]), {}).update(numbers)
    return found
