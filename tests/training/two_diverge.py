"""A training in which one rank of two finds NaN; both must stop, at the same step and with the same sentence.

torchrun --nproc_per_node=2 -m tests.training.two_diverge MODEL DATA OUT
"""

import math
import os
import sys
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback

from lightning_embed import DatasetOptions, EmbeddingDataModule, EmbeddingModule, load_datasets
from lightning_embed.callback import AtomicCheckpointIO, ResumeCheckpoint, WhileTraining
from lightning_embed.encoder import Encoder, EncoderOptions
from lightning_embed.encoder.options import Dtype
from lightning_embed.errors import CheckpointError, LightningEmbedError
from lightning_embed.evaluation import Local
from lightning_embed.loss.cosent import CoSENT
from lightning_embed.loss.infonce import InfoNCE
from lightning_embed.runtime import distributed
from lightning_embed.sampler.round_robin import RoundRobin
from lightning_embed.types import LossOutput, Task

STEPS = 24


class OnRankOne(Callback):
    """Spoils the second rank alone: the loss of step 3, or the embedding of one text in an evaluation."""

    def __init__(self, what: str) -> None:
        self.what = what

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step + 1 != 3 or distributed.rank() != 1:
            return
        if self.what == "text":
            encode = pl_module.encoder.encode

            def refused(texts: list[str], *, prompt: str | None, max_length: int | None) -> Any:
                raise CheckpointError(f"{len(encode(texts, prompt=prompt, max_length=max_length))} texts of rank 1")

            pl_module.encoder.encode = refused
            return
        if self.what == "weight":  # as a fault of one device
            pl_module.encoder.not_finite = lambda: "embeddings.weight has NaN or infinity"
            return
        inner = pl_module.compute_loss

        def spoiled(*given: Any) -> LossOutput:
            output = inner(*given)
            return replace(output, value=output.value + math.nan)  # the gradient, which the ranks share, is finite

        pl_module.compute_loss = spoiled


def stopped(model: Path, data: Path, out: Path, what: str) -> str:
    """The error of this rank."""
    options = {
        name: DatasetOptions(task, str(data / name), batch_size=8, num_negatives=2)
        for name, task in (("pairs", Task.retrieval), ("scores", Task.sts))
    }
    encoder = Encoder(EncoderOptions(str(model), dtype=Dtype.float32, max_tokens=64))
    losses = {Task.retrieval: InfoNCE(temperature=0.1), Task.sts: CoSENT()}
    module = EmbeddingModule(encoder, losses, partial(torch.optim.SGD, lr=0.1))
    callbacks: list[Callback] = [OnRankOne(what), ResumeCheckpoint(out / what, 0.0 if what == "checkpoint" else 60.0)]
    if what in ("text", "scores"):
        callbacks.append(WhileTraining(Local(), every_n_steps=5))
    try:
        Trainer(
            accelerator="cpu", devices=int(os.environ["WORLD_SIZE"]), strategy="ddp", max_steps=STEPS, logger=False,
            callbacks=callbacks, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
            use_distributed_sampler=False, plugins=[AtomicCheckpointIO()], num_sanity_val_steps=0, max_epochs=-1,
            val_check_interval=4 if what in ("validation", "weight") else STEPS, check_val_every_n_epoch=None,
        ).fit(module, EmbeddingDataModule(load_datasets(options, cache=out / "cache"), encoder, RoundRobin()))  # fmt: skip
    except LightningEmbedError as error:
        return f"{module.trainer.global_step} {type(error).__name__}: {error}"
    return "nothing"


CASES = ("step", "checkpoint", "validation", "scores", "text", "weight")

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    model, data, out = map(Path, sys.argv[1:])
    errors = {what: stopped(model, data, out, what) for what in CASES}
    torch.save(errors, out / f"errors-{distributed.rank()}.pt")
