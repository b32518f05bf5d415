"""Learned numbers of losses in a training: they are trained, clamped, saved and resumed, and in no exported model."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from safetensors.torch import load_file

from lightning_embed import EmbeddingDataModule, EmbeddingModule, load
from lightning_embed.loss.cosent import CoSENT
from lightning_embed.loss.infonce import InfoNCE
from lightning_embed.loss.learned_temperature import LearnedTemperature
from lightning_embed.sampler.round_robin import RoundRobin
from lightning_embed.training.lr_schedule import linear
from lightning_embed.types import Task
from tests.training.lightning import ADAMW, datasets, equal, trainer, weights

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's, of few workers, and of weights after a step
KEY = "learned.of_loss.retrieval.log_scale"
START = torch.tensor(10.0).log()


def _made(model: Path, rows: Path, **options: Any) -> tuple[EmbeddingModule, EmbeddingDataModule]:
    encoder = load(model)
    losses = {Task.retrieval: LearnedTemperature(InfoNCE(temperature=0.1), **options), Task.sts: CoSENT()}
    module = EmbeddingModule(encoder, losses, ADAMW, partial(linear, warmup_share=0.2))
    return module, EmbeddingDataModule(datasets(rows), encoder, RoundRobin())


def test_it_is_trained_without_weight_decay(tiny_model: Path, rows: Path, tmp_path: Path) -> None:
    module, data = _made(tiny_model, rows, lr=0.1)
    own = trainer(tmp_path, limit_val_batches=0)
    own.fit(module, data)
    assert weights(module).keys() - set(module.encoder.state_dict(prefix="encoder.")) == {KEY}
    assert abs(weights(module)[KEY] - START) > 0.05
    encoder, number = own.optimizers[0].param_groups
    assert (number["initial_lr"], number["weight_decay"]) == (0.1, 0.0)
    assert number["lr"] / 0.1 == pytest.approx(encoder["lr"] / 1e-3)  # one schedule
    assert encoder["weight_decay"] > 0


def test_it_is_clamped_after_a_step(tiny_model: Path, rows: Path, tmp_path: Path) -> None:
    module, data = _made(tiny_model, rows, lr=100.0, min_temperature=0.09, max_temperature=0.11)
    trainer(tmp_path, limit_val_batches=0).fit(module, data)
    temperature = float(torch.exp(-weights(module)[KEY]))
    assert min(abs(temperature - 0.09), abs(temperature - 0.11)) < 1e-6


def test_it_is_resumed(tiny_model: Path, rows: Path, tmp_path: Path) -> None:
    """Of three of six steps and the rest, bit for bit; and a checkpoint builds the module again."""
    kept = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=3, save_top_k=-1)
    whole, data = _made(tiny_model, rows)
    trainer(tmp_path, enable_checkpointing=True, callbacks=[kept], limit_val_batches=0).fit(whole, data)
    resumed, data = _made(tiny_model, rows)
    trainer(tmp_path, limit_val_batches=0).fit(resumed, data, ckpt_path=tmp_path / "step=3.ckpt")
    assert equal(weights(whole), weights(resumed))
    again = EmbeddingModule.load_from_checkpoint(tmp_path / "step=6.ckpt")
    assert equal(weights(again), weights(whole))
    assert not torch.equal(weights(whole)[KEY], START)
    losses = {Task.retrieval: InfoNCE(), Task.sts: LearnedTemperature(InfoNCE(temperature=0.1))}
    replaced = EmbeddingModule.load_from_checkpoint(tmp_path / "step=6.ckpt", losses=losses)
    assert set(replaced.learned.state_dict()) == {"of_loss.sts.log_scale"}
    assert equal(replaced.encoder.state_dict(), whole.encoder.state_dict())


def test_it_keeps_32_bits(tiny_model: Path, rows: Path) -> None:
    module, _ = _made(tiny_model, rows)
    module.to(torch.bfloat16)
    assert torch.equal(weights(module)[KEY], START)
    assert weights(module)[KEY].dtype == torch.float32
    assert weights(module.double())[KEY].dtype == torch.float64


def test_no_exported_model_has_it(tiny_model: Path, rows: Path, tmp_path: Path) -> None:
    module, data = _made(tiny_model, rows)
    trainer(tmp_path, limit_val_batches=0).fit(module, data)
    module.export(tmp_path / "model")
    assert not [name for name in load_file(tmp_path / "model" / "model.safetensors") if "log_scale" in name]
