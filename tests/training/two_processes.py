"""A training of a few steps, in one process or two: its losses, gradients and weights."""

import os
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer

from lightning_embed import DatasetOptions, EmbeddingDataModule, EmbeddingModule, load_datasets
from lightning_embed.encoder import Encoder, EncoderOptions
from lightning_embed.encoder.options import Dtype
from lightning_embed.loss.cosent import CoSENT
from lightning_embed.loss.infonce import InfoNCE
from lightning_embed.loss.learned_temperature import LearnedTemperature
from lightning_embed.sampler.round_robin import RoundRobin
from lightning_embed.types import Task

ACCUMULATE = (1, 2)
RANKS = int(os.environ.get("WORLD_SIZE", 1))


class NoDropout(EmbeddingModule):
    """Also notes the loss and the gradient of every step."""

    def on_train_start(self) -> None:
        self.eval()
        self.record: list[tuple[dict[str, torch.Tensor], torch.Tensor]] = []

    def _clip(self) -> torch.Tensor:
        self.gradient = torch.cat([p.grad.flatten() for p in self.parameters() if p.grad is not None]).clone()
        return super()._clip()

    def on_train_batch_end(self, outputs: dict, batch: object, batch_idx: int) -> None:
        losses = {name: self.all_gather(loss).mean() for name, loss in outputs["losses"].items()}
        self.record.append((losses, self.gradient))


def trained(model: Path, data: Path, cache: Path, accumulate: int) -> dict[str, Any]:
    """Train four steps in float64: the record of every step, and the weights after the last."""
    options = {
        name: DatasetOptions(task, str(data / name), batch_size=8, num_negatives=2)
        for name, task in (("pairs", Task.retrieval), ("scores", Task.sts))
    }
    encoder = Encoder(EncoderOptions(str(model), dtype=Dtype.float32, max_tokens=64))
    losses = {Task.retrieval: LearnedTemperature(InfoNCE(temperature=0.1, symmetric=True)), Task.sts: CoSENT()}
    module = NoDropout(encoder, losses, partial(torch.optim.SGD, lr=0.1), max_grad_norm=100.0).double()
    datamodule = EmbeddingDataModule(load_datasets(options, cache=cache), encoder, RoundRobin(accumulate))
    trainer = Trainer(
        accelerator="cpu", devices=RANKS, strategy="ddp" if RANKS > 1 else "auto", max_steps=4, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
        limit_val_batches=0, precision="64-true",
    )  # fmt: skip
    trainer.fit(module, datamodule)
    return {"record": module.record, "weights": module.state_dict()}
