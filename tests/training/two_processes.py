"""Trains a few steps and saves losses and weights; run alone, or by torchrun in several processes.

python tests/training/two_processes.py MODEL DATA OUT ACCUMULATE [ACCUMULATE ...]: one file in the folder OUT for each
"""

import os
import sys
import warnings
from functools import partial
from pathlib import Path

import torch
from lightning import Trainer

from lightning_embed import DatasetOptions, EmbeddingDataModule, EmbeddingModule, load_datasets
from lightning_embed.encoder import Encoder, EncoderOptions
from lightning_embed.encoder.options import Dtype
from lightning_embed.loss.cosent import CoSENT
from lightning_embed.loss.infonce import InfoNCE
from lightning_embed.sampler.round_robin import RoundRobin
from lightning_embed.types import Task

RANKS = int(os.environ.get("WORLD_SIZE", 1))


class NoDropout(EmbeddingModule):
    """Also notes the loss and the gradient of every step."""

    def on_train_start(self) -> None:
        self.eval()
        self.record: list[tuple[dict[str, torch.Tensor], torch.Tensor]] = []

    def _clip(self) -> torch.Tensor:
        self.gradient = torch.cat([p.grad.flatten() for p in self.encoder.parameters() if p.grad is not None]).clone()
        return super()._clip()

    def on_train_batch_end(self, outputs: dict[str, torch.Tensor], batch: object, batch_idx: int) -> None:
        losses = {name: self.all_gather(loss).mean() for name, loss in outputs.items()}
        self.record.append((losses, self.gradient))


def run(model: str, data: str, out: str, accumulate: int) -> None:
    """Train four steps in float64 and save what happened."""
    options = {
        name: DatasetOptions(task, f"{data}/{name}", batch_size=8, num_negatives=2)
        for name, task in (("pairs", Task.retrieval), ("scores", Task.sts))
    }
    encoder = Encoder(EncoderOptions(model, dtype=Dtype.float32, max_tokens=64))
    losses = {Task.retrieval: InfoNCE(temperature=0.1, symmetric=True), Task.sts: CoSENT()}
    module = NoDropout(encoder, losses, partial(torch.optim.SGD, lr=0.1), max_grad_norm=100.0).double()
    datamodule = EmbeddingDataModule(load_datasets(options, cache=Path(out) / "cache"), encoder, RoundRobin(accumulate))
    trainer = Trainer(
        accelerator="cpu", devices=RANKS, strategy="ddp" if RANKS > 1 else "auto", max_steps=4, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
        limit_val_batches=0, precision="64-true",
    )  # fmt: skip
    trainer.fit(module, datamodule)
    if trainer.is_global_zero:
        torch.save({"record": module.record, "weights": encoder.state_dict()}, f"{out}/{accumulate}.pt")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    for number in map(int, sys.argv[4:]):
        run(*sys.argv[1:4], number)
