"""Short trainings of one process or, sharded, of several: their losses, weights and exported models.

torchrun --nproc_per_node=2 -m tests.training.sharded_ranks MODEL DATA OUT
"""

import os
import sys
import warnings
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback

from lightning_embed import DatasetOptions, EmbeddingDataModule, EmbeddingModule, load_datasets
from lightning_embed.callback import AtomicCheckpointIO, ExponentialAverage, Snapshots, WhileTraining
from lightning_embed.callback.resume import Owner, resumable
from lightning_embed.encoder import Encoder, EncoderOptions
from lightning_embed.encoder.options import Dtype
from lightning_embed.evaluation import Local
from lightning_embed.loss.cosent import CoSENT
from lightning_embed.loss.infonce import InfoNCE
from lightning_embed.runtime import distributed, launched
from lightning_embed.sampler.mixed import Mixed
from lightning_embed.sampler.round_robin import RoundRobin
from lightning_embed.training.sharded import Sharded, export
from lightning_embed.types import Task

RANKS = int(os.environ.get("WORLD_SIZE", 1))
STEPS, HALF = 4, 2


@dataclass(frozen=True)
class Case:
    """A training, by what differs from a plain one."""

    module: dict[str, Any] = field(default_factory=dict)
    encoder: dict[str, Any] = field(default_factory=dict)
    sampler: Any = field(default_factory=RoundRobin)


CASES = {
    "plain": Case(),
    "cached": Case({"step": "cached"}),
    "partial": Case({"step": "partial", "step_memory": 40_000}),
    "lora": Case({"step": "cached"}, {"lora_rank": 4}),
    "accumulated": Case(sampler=RoundRobin(accumulate=2)),
    "mixed": Case({"step": "cached"}, sampler=Mixed()),
    "checkpointing": Case(encoder={"gradient_checkpointing": True}),
    "bfloat16": Case(encoder={"dtype": Dtype.bfloat16}),
    "padded": Case(encoder={"attention": "sdpa"}),
}


class NoDropout(EmbeddingModule):
    """Notes the loss of every step, and its gradient's norm."""

    def on_train_start(self) -> None:
        for part in self.modules():
            if isinstance(part, torch.nn.Dropout):
                part.p = 0.0
        self.record: list[torch.Tensor] = []

    def on_train_batch_end(self, outputs: dict, batch: object, batch_idx: int) -> None:
        self.record.append(self.all_gather(outputs["loss"]).mean())


class SavesHalf(Callback):
    """A checkpoint in the middle."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == HALF:
            trainer.save_checkpoint(self.file)


def trained(
    model: Path, data: Path, case: Case, *callbacks: Callback, sharded: bool = RANKS > 1, checkpoint: Path | None = None
) -> dict[str, Any]:
    """Train in float32: the loss of every step, and on rank zero the weights after the last."""
    options = {
        name: DatasetOptions(task, str(data / name), batch_size=8, num_negatives=2)
        for name, task in (("pairs", Task.retrieval), ("scores", Task.sts))
    }
    encoder = Encoder(EncoderOptions(str(model), **{"dtype": Dtype.float32, "max_tokens": 64, **case.encoder}))
    losses = {Task.retrieval: InfoNCE(temperature=0.1), Task.sts: CoSENT()}
    module = NoDropout(encoder, losses, partial(torch.optim.AdamW, lr=1e-3, eps=1e-3), **case.module)
    strategy = Sharded() if sharded else "auto"
    trainer = Trainer(
        accelerator="cpu", devices=RANKS, strategy=strategy, max_steps=STEPS, max_epochs=-1, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
        val_check_interval=HALF, check_val_every_n_epoch=None, num_sanity_val_steps=0, plugins=[AtomicCheckpointIO()],
        callbacks=[*callbacks, Owner("mine")],
    )  # fmt: skip
    path = None if checkpoint is None else resumable(checkpoint, module, "mine")
    trainer.fit(
        module, EmbeddingDataModule(load_datasets(options, cache=data / "cache"), encoder, case.sampler), ckpt_path=path
    )
    for callback in callbacks:
        if isinstance(callback, ExponentialAverage):
            callback.export(trainer.strategy, encoder)
            export(trainer.strategy, encoder, callback.target.with_name("last"))
        if isinstance(callback, WhileTraining):
            callback.finish(encoder, STEPS, data / "choice.json")
    whole = strategy.gathered(encoder, {}) if isinstance(strategy, Sharded) else encoder
    weights = {} if whole is None else {name: tensor.clone() for name, tensor in whole.state_dict().items()}
    shares = sum(p.to_local().numel() if sharded else p.numel() for p in encoder.parameters())  # type: ignore[operator]
    return {"losses": torch.stack(module.record), "weights": weights, "share": shares}


def with_callbacks(model: Path, data: Path, out: Path, **options: Any) -> dict[str, Any]:
    """A training with all that reads weights beside it: a snapshot, an average, the best step, a checkpoint."""
    callbacks = (
        Snapshots({3: out / "snapshot"}), ExponentialAverage(0.5, out / "average"),
        WhileTraining(Local(), every_n_steps=1, keep_best=True), SavesHalf(out / "half.ckpt"),
    )  # fmt: skip
    return trained(model, data, CASES["plain"], *callbacks, **options)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    model, data, out = map(Path, sys.argv[1:])
    found: dict[str, Any] = {}
    for name, case in CASES.items():
        found[name] = trained(model, data, case)
    found["callbacks"] = with_callbacks(model, data, out)
    if launched.is_first():
        torch.save(found, out / "found.pt")
    distributed.leave()
