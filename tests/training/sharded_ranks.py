"""Short trainings of one process or, sharded, of several: their losses, weights and exported models.

torchrun --nproc_per_node=2 -m tests.training.sharded_ranks MODEL DATA OUT CHECKPOINT CASE ...
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
from lightning_embed.callback import AtomicCheckpointIO, EmbeddingGeometry, ExponentialAverage, Snapshots, WhileTraining
from lightning_embed.callback.resume import Owner, resumable
from lightning_embed.encoder import Encoder, EncoderOptions
from lightning_embed.encoder.options import Dtype, Weights
from lightning_embed.encoder.parameter_groups import ParameterGroups
from lightning_embed.evaluation import Local
from lightning_embed.loss.cosent import CoSENT
from lightning_embed.loss.infonce import InfoNCE
from lightning_embed.loss.learned_temperature import LearnedTemperature
from lightning_embed.runtime import distributed, launched
from lightning_embed.sampler.mixed import Mixed
from lightning_embed.sampler.round_robin import RoundRobin
from lightning_embed.training.muon import Muon
from lightning_embed.training.sharded import Sharded
from lightning_embed.types import Task

RANKS = int(os.environ.get("WORLD_SIZE", 1))
STEPS, HALF = 4, 2


@dataclass(frozen=True)
class Case:
    """A training, by what differs from a plain one."""

    module: dict[str, Any] = field(default_factory=dict)
    encoder: dict[str, Any] = field(default_factory=dict)
    sampler: Any = field(default_factory=RoundRobin)
    optimizer: Any = field(default_factory=lambda: partial(torch.optim.AdamW, lr=1e-3, eps=1e-3))


CASES = {
    "plain": Case(),
    "cached": Case({"step": "cached"}),
    "partial": Case({"step": "partial", "step_memory": 40_000}),
    "lora": Case({"step": "cached"}, {"lora_rank": 4}),
    "int8": Case(encoder={"lora_rank": 4, "weights": Weights.int8}),
    "accumulated": Case(sampler=RoundRobin(accumulate=2)),
    "mixed": Case({"step": "cached"}, sampler=Mixed(num_parts=2)),
    "checkpointing": Case(encoder={"gradient_checkpointing": True}),
    "muon": Case(
        {"parameter_groups": ParameterGroups(no_decay=True, layer_decay=0.9)},
        optimizer=partial(Muon, lr=1e-3, eps=1e-3, weight_decay=0.1),
    ),
    "bfloat16": Case(encoder={"dtype": Dtype.bfloat16}),
}


class NoDropout(EmbeddingModule):
    """Notes the loss of every step, and how many chunks without a text were added."""

    def on_train_start(self) -> None:
        for part in self.modules():
            if isinstance(part, torch.nn.Dropout):
                part.p = 0.0
        self.record: list[torch.Tensor] = []
        self.added = 0
        agree = self.encoder.agree

        def noted(value: int) -> int:
            largest = agree(value)
            self.added += largest - value
            return largest

        self.encoder.agree = noted

    def on_train_batch_end(self, outputs: dict, batch: object, batch_idx: int) -> None:
        self.record.append(self.all_gather(outputs["loss"]).mean())


class Worse(WhileTraining):
    """Each measurement is worse than the one before, so that the best step is not the last."""

    def _numbers(self, results: Any) -> dict[str, float]:
        return {"dev/mean": super()._numbers(results)["dev/mean"] - 1000 * self.progress.measuring}


class SavesHalf(Callback):
    """A checkpoint in the middle."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == HALF:
            trainer.save_checkpoint(self.file)


def trained(
    model: Path,
    data: Path,
    case: Case,
    *callbacks: Callback,
    sharded: bool = RANKS > 1,
    checkpoint: Path | None = None,
    out: Path | None = None,
) -> dict[str, Any]:
    """Train in float32: the loss of every step, and on rank zero the weights after the last."""
    options = {
        name: DatasetOptions(task, str(data / name), batch_size=8, num_negatives=2)
        for name, task in (("pairs", Task.retrieval), ("scores", Task.sts))
    }
    encoder = Encoder(EncoderOptions(str(model), **{"dtype": Dtype.float32, "max_tokens": 64, **case.encoder}))
    losses = {Task.retrieval: LearnedTemperature(InfoNCE(temperature=0.1), lr=0.1), Task.sts: CoSENT()}
    module = NoDropout(encoder, losses, case.optimizer, **case.module)
    strategy = Sharded() if sharded else "auto"
    trainer = Trainer(
        accelerator="cpu", devices=RANKS, strategy=strategy, max_steps=STEPS, max_epochs=-1, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
        val_check_interval=HALF, check_val_every_n_epoch=None, num_sanity_val_steps=1, plugins=[AtomicCheckpointIO()],
        callbacks=[*callbacks, Owner("mine")],
    )  # fmt: skip
    path = None if checkpoint is None else resumable(checkpoint, module, "mine")
    trainer.fit(
        module, EmbeddingDataModule(load_datasets(options, cache=data / "cache"), encoder, case.sampler), ckpt_path=path
    )
    for callback in callbacks:
        if isinstance(callback, ExponentialAverage):
            callback.export(module)
        if isinstance(callback, WhileTraining):
            callback.finish(encoder, STEPS, data / "choice.json")
    if out is not None:
        module.export(out / "last")
    whole = strategy.gathered(encoder, {}) if isinstance(strategy, Sharded) else encoder
    weights = {} if whole is None else {name: tensor.clone() for name, tensor in whole.state_dict().items()}
    shares = sum(p.to_local().numel() if sharded else p.numel() for p in encoder.parameters())  # type: ignore[operator]
    added = sum(map(sum, distributed.counts([module.added])))
    return {"losses": torch.stack(module.record), "weights": weights, "share": shares, "added": added}


def with_callbacks(model: Path, data: Path, out: Path) -> dict[str, Any]:
    """A training with all that reads weights beside it: a snapshot, an average, the best step, a checkpoint."""
    callbacks = (
        Snapshots({3: out / "snapshot"}), ExponentialAverage(0.5, out / "average"),
        EmbeddingGeometry(every_n_steps=2, num_texts=8), Worse(Local(), every_n_steps=2, keep_best=True), SavesHalf(out / "half.ckpt"),
    )  # fmt: skip
    return trained(model, data, CASES["plain"], *callbacks, out=out)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    model, data, out, checkpoint = map(Path, sys.argv[1:5])
    found: dict[str, Any] = {name: trained(model, data, CASES[name]) for name in sys.argv[5:]}
    if checkpoint.exists():
        found["resumed"] = trained(model, data, CASES["plain"], checkpoint=checkpoint)
    else:
        found["callbacks"] = with_callbacks(model, data, out)
    if launched.is_first():
        torch.save(found, out / "found.pt")
    distributed.leave()
