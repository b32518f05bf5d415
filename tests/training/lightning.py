"""What the tests of Lightning's contract share: a module, its data, and a Trainer of a few steps."""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer

from lightning_embed import DatasetOptions, EmbeddingDataModule, EmbeddingModule, load, load_datasets
from lightning_embed.encoder import Encoder
from lightning_embed.loss.cosent import CoSENT
from lightning_embed.loss.infonce import InfoNCE
from lightning_embed.sampler.round_robin import RoundRobin
from lightning_embed.training.lr_schedule import linear
from lightning_embed.types import Task

LOSSES = {Task.retrieval: InfoNCE(temperature=0.1), Task.sts: CoSENT()}
ADAMW = partial(torch.optim.AdamW, lr=1e-3)


def datasets(data: Path, batch_size: int = 8) -> dict[str, Any]:
    """Two datasets, with train, dev and test."""
    options = {
        name: DatasetOptions(task, str(data / name), batch_size=batch_size, num_negatives=2)
        for name, task in (("pairs", Task.retrieval), ("scores", Task.sts))
    }
    return load_datasets(options, cache=data / "cache")


def made(model: Path, data: Path, cls: type[EmbeddingModule] = EmbeddingModule, **options: Any) -> tuple[Any, Any]:
    """A module and its data."""
    encoder: Encoder = load(model)
    module = cls(encoder, LOSSES, ADAMW, partial(linear, warmup_share=0.2), **options)
    return module, EmbeddingDataModule(datasets(data), encoder, RoundRobin())


def trainer(folder: Path, **options: Any) -> Trainer:
    """A Trainer of six steps: an epoch has twelve."""
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "use_distributed_sampler": False}
    given = {"logger": False, "enable_checkpointing": False, "max_steps": 6, "accelerator": "cpu"}
    return Trainer(default_root_dir=folder, **{**quiet, **given, **options})


def weights(module: EmbeddingModule) -> dict[str, torch.Tensor]:
    """A copy of the weights."""
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Whether weights are the same bits."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
