"""What Lightning users do with a module: its callbacks, its tuner, resuming, and subclasses."""

import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import (
    Callback,
    DeviceStatsMonitor,
    EarlyStopping,
    LearningRateMonitor,
    ModelCheckpoint,
    WeightAveraging,
)
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.tuner import Tuner
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_embed import EmbeddingDataModule, EmbeddingModule, load
from lightning_embed.encoder import precision
from lightning_embed.errors import CheckpointError, ConfigError
from lightning_embed.sampler.batch_shuffle import BatchShuffle
from lightning_embed.sampler.round_robin import RoundRobin
from lightning_embed.types import Batch, Embeddings, LossOutput, StepMode
from tests.training.lightning import ADAMW, LOSSES, datasets, equal, made, trainer, weights

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # Lightning's, of few workers, and of weights after a step
    pytest.mark.filterwarnings("error:.*not resumable"),
    pytest.mark.filterwarnings("error:.*hparams"),
]


class Counts(Callback):
    """What a callback of one's own sees."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert set(outputs["losses"]) == {part.dataset for part in batch}
        self.losses.append(float(outputs["loss"]))


def test_a_callback_sees_losses(tiny_model: Path, rows: Path, tmp_path: Path) -> None:
    module, data = made(tiny_model, rows)
    counts = Counts()
    trainer(tmp_path, callbacks=[counts]).fit(module, data)
    assert len(counts.losses) == 6
    assert all(map(math.isfinite, counts.losses))


def test_model_checkpoint_keeps_the_best(tiny_model: Path, rows: Path, tmp_path: Path) -> None:
    module, data = made(tiny_model, rows)
    kept = ModelCheckpoint(tmp_path, monitor="dev/loss/scores", save_top_k=1)
    trainer(tmp_path, enable_checkpointing=True, callbacks=[kept], val_check_interval=2).fit(module, data)
    best = EmbeddingModule.load_from_checkpoint(kept.best_model_path)
    (found,) = trainer(tmp_path).validate(best, data, verbose=False)
    assert found["dev/loss/scores"] == pytest.approx(float(kept.best_model_score or 0), abs=1e-6)


def test_early_stopping_stops(tiny_model: Path, rows: Path, tmp_path: Path) -> None:
    module, data = made(tiny_model, rows)
    stop = EarlyStopping("dev/loss/pairs", patience=1, min_delta=100.0)
    own = trainer(tmp_path, callbacks=[stop], val_check_interval=2, max_steps=12)
    own.fit(module, data)
    assert own.global_step == 4


def test_learning_rate_and_device_are_logged_at_each_step(tiny_model: Path, rows: Path, tmp_path: Path) -> None:
    module, data = made(tiny_model, rows)
    monitors = [LearningRateMonitor(), DeviceStatsMonitor(cpu_stats=True)]
    logger = CSVLogger(tmp_path)
    trainer(tmp_path, callbacks=monitors, logger=logger, log_every_n_steps=1, limit_val_batches=0).fit(module, data)
    lines = (Path(logger.log_dir) / "metrics.csv").read_text().splitlines()
    column = lines[0].split(",").index("lr-AdamW")
    assert len([line for line in lines[1:] if line.split(",")[column]]) == 6
    assert "cpu_percent" in lines[0]
    hparams = (Path(logger.log_dir) / "hparams.yaml").read_text()
    assert "infonce" in hparams
    assert "AdamW" in hparams


def test_weight_averaging_averages(tiny_model: Path, rows: Path, tmp_path: Path) -> None:
    module, data = made(tiny_model, rows)
    trainer(tmp_path).fit(module, data)
    average = made(tiny_model, rows)[0]
    trainer(tmp_path, callbacks=[WeightAveraging(device="cpu")]).fit(average, data)
    start, end, mean = weights(made(tiny_model, rows)[0]), weights(module), weights(average)
    distance = [sum(float((a[n] - b[n]).norm()) for n in a) for a, b in ((start, end), (start, mean), (mean, end))]
    assert 0 < distance[1] < distance[0]
    assert distance[2] > 0


def test_the_tuner_finds_a_rate_that_the_next_fit_takes(tiny_model: Path, rows: Path, tmp_path: Path) -> None:
    module, data = made(tiny_model, rows)
    before = weights(module)
    found = Tuner(trainer(tmp_path, max_steps=20)).lr_find(module, datamodule=data, num_training=15, max_lr=0.1)
    assert found is not None
    assert len(found.results["loss"]) > 10
    assert module.lr == module.hparams.lr == found.suggestion()
    assert equal(before, weights(module))
    own = trainer(tmp_path, max_steps=1, limit_val_batches=0)
    own.fit(module, data)
    assert own.optimizers[0].param_groups[0]["initial_lr"] == module.lr


@pytest.mark.parametrize(
    ("limits", "sampler"),
    [
        ({"max_steps": 6}, RoundRobin()),
        ({"max_steps": 16}, RoundRobin()),
        ({"max_steps": -1, "max_epochs": 1}, BatchShuffle()),
        ({"max_steps": 7}, BatchShuffle(accumulate=2)),
    ],
    ids=["in the first epoch", "into the second", "by epochs", "accumulated"],
)
def test_a_resumed_training_is_the_undisturbed_one(
    limits: dict[str, Any], sampler: Any, tiny_model: Path, rows: Path, tmp_path: Path
) -> None:
    def new() -> tuple[EmbeddingModule, EmbeddingDataModule]:
        encoder = load(tiny_model)
        return EmbeddingModule(encoder, LOSSES, ADAMW), EmbeddingDataModule(datasets(rows), encoder, sampler, seed=3)

    kept = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=5, save_top_k=-1)
    whole, data = new()
    trainer(tmp_path, callbacks=[kept], enable_checkpointing=True, limit_val_batches=0, **limits).fit(whole, data)
    assert kept.best_model_path
    for file in sorted(tmp_path.glob("*.ckpt")):
        again, data = new()
        trainer(tmp_path, limit_val_batches=0, **limits).fit(again, data, ckpt_path=file)
        assert equal(weights(again), weights(whole)), file.name


@pytest.mark.parametrize("began", [torch.bfloat16, torch.float32], ids=str)
def test_a_run_goes_on_in_the_dtype_that_it_began_in(
    began: torch.dtype, tiny_model: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be resumed on a machine that is not fast at bfloat16, or on the first one that is."""

    def on(fast: bool, **options: Any) -> EmbeddingModule:
        monkeypatch.setattr(precision, "_fast_at_bfloat16", lambda _: fast)
        module, data = made(tiny_model, rows)
        trainer(tmp_path, limit_val_batches=0, **options).fit(module, data)
        return module

    kept = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=3, save_top_k=-1)
    fast = began is torch.bfloat16
    whole = on(fast, callbacks=[kept], enable_checkpointing=True)
    other = on(not fast)
    monkeypatch.setattr(precision, "_fast_at_bfloat16", lambda _: not fast)
    again, data = made(tiny_model, rows)
    trainer(tmp_path, limit_val_batches=0).fit(again, data, ckpt_path=tmp_path / "step=3.ckpt")
    assert equal(weights(again), weights(whole))
    assert not equal(weights(other), weights(whole))
    assert again.encoder.compute_dtype(training=True) is began
    assert again.encoder.compute_dtype(training=False) is torch.float32


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"seed": 1}, "seed=0, and this one has 1"),
        ({"sampler": BatchShuffle()}, r"sampler=RoundRobin\(accumulate=1\)"),
        ({"sampler": RoundRobin(accumulate=2)}, r"RoundRobin\(accumulate=2\)"),
        ({"batch_size": 4}, r"'pairs': \[48, 8\]"),
        ({"rows": {"pairs": range(40), "scores": None}}, r"'pairs': \[40, 8\]"),
        ({"rows": {"pairs": None}}, "datasets="),
    ],
)
def test_other_rows_are_not_resumed(
    changed: dict[str, Any], named: str, checkpoint: Path, tiny_model: Path, rows: Path, tmp_path: Path
) -> None:
    """With a word: else the training would go on at the same number of a step, among other rows."""
    options = {"sampler": RoundRobin(), "batch_size": 8, **changed}
    encoder = load(tiny_model)
    found = datasets(rows, options.pop("batch_size"))
    data = EmbeddingDataModule(found, encoder, options.pop("sampler"), options.pop("rows", None), **options)
    module = EmbeddingModule(encoder, LOSSES, ADAMW, made(tiny_model, rows)[0].make_scheduler)
    with pytest.raises(CheckpointError, match=f"{named}.*it would not go on"):
        trainer(tmp_path, limit_val_batches=0).fit(module, data, ckpt_path=checkpoint)
    trainer(tmp_path).validate(module, data, ckpt_path=checkpoint, verbose=False)  # which has no order


def test_a_trainer_without_our_data_module(tiny_model: Path, rows: Path, tmp_path: Path) -> None:
    """A DataLoader of the caller's own, with a schedule."""
    module, data = made(tiny_model, rows)
    steps = list(data.train_dataloader())
    own = trainer(tmp_path, max_steps=4)
    own.fit(module, DataLoader(steps, batch_size=None, collate_fn=tuple))
    assert own.global_step == 4


class Penalised(EmbeddingModule):
    """Adds a term to the loss, and logs it."""

    def compute_loss(self, batch: Batch, embeddings: Embeddings) -> LossOutput:
        output = super().compute_loss(batch, embeddings)
        mean = embeddings.final.mean(0).norm()
        self.log("mean_norm", mean.detach(), batch_size=len(batch.query))
        return LossOutput(output.value + 0.5 * mean, {**output.logs, "mean_norm": mean.detach()})


@pytest.mark.parametrize("step", StepMode)
def test_a_subclass_adds_a_term(step: StepMode, tiny_model: Path, rows: Path, tmp_path: Path) -> None:
    """In training and in validation, whatever the mode of a step."""
    trained = {}
    for cls in (EmbeddingModule, Penalised):
        module, data = made(tiny_model, rows, cls, step=step, step_memory=1000)
        own = trainer(tmp_path, max_steps=2)
        own.fit(module, data)
        trained[cls] = weights(module)
        assert ("mean_norm" in own.callback_metrics) == (cls is Penalised)
    assert not equal(trained[EmbeddingModule], trained[Penalised])


class Scheduled(EmbeddingModule):
    """With an optimiser and a scheduler of its own, as on Lightning's page."""

    schedule: dict[str, Any]

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.encoder.parameters(), lr=1.0)
        made_of = self.schedule["scheduler"](optimizer)
        return {"optimizer": optimizer, "lr_scheduler": {**self.schedule, "scheduler": made_of}}


HALVE = partial(torch.optim.lr_scheduler.StepLR, step_size=1, gamma=0.5)
PLATEAU = partial(torch.optim.lr_scheduler.ReduceLROnPlateau, factor=0.5, patience=0, threshold=1e9)


@pytest.mark.parametrize(
    ("schedule", "rate"),
    [
        ({"scheduler": HALVE, "interval": "step"}, 0.5**12),
        ({"scheduler": HALVE, "interval": "step", "frequency": 5}, 0.5**2),
        ({"scheduler": HALVE}, 0.5),  # by epochs, Lightning's default
        ({"scheduler": HALVE, "interval": "epoch", "frequency": 2}, 1.0),
    ],
)
def test_a_schedule_steps_at_its_own_interval(
    schedule: dict[str, Any], rate: float, tiny_model: Path, rows: Path, tmp_path: Path
) -> None:
    module, data = made(tiny_model, rows, type("Own", (Scheduled,), {"schedule": schedule}))
    own = trainer(tmp_path, max_steps=-1, max_epochs=1)
    own.fit(module, data)
    assert own.global_step == 12
    assert own.optimizers[0].param_groups[0]["lr"] == pytest.approx(rate)


class Follows(Scheduled):
    """Steps a schedule that follows a metric, as on Lightning's page of manual optimisation."""

    schedule = {"scheduler": PLATEAU}

    def on_validation_epoch_end(self) -> None:
        self.lr_schedulers().step(self.trainer.callback_metrics["dev/loss/pairs"])  # type: ignore[union-attr]


def test_a_schedule_that_follows_a_metric_is_stepped_by_a_hook(tiny_model: Path, rows: Path, tmp_path: Path) -> None:
    module, data = made(tiny_model, rows, Follows)
    own = trainer(tmp_path, max_steps=6, val_check_interval=2, num_sanity_val_steps=0)
    own.fit(module, data)
    assert own.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.5**3)


class Two(EmbeddingModule):
    def configure_optimizers(self) -> Any:
        first, *others = self.encoder.parameters()
        return [torch.optim.SGD([first], lr=0.1), torch.optim.SGD(others, lr=0.1)]


def test_two_optimisers_are_one_sentence(tiny_model: Path, rows: Path, tmp_path: Path) -> None:
    module, data = made(tiny_model, rows, Two)
    with pytest.raises(ConfigError, match=r"expected one optimiser, got 2. Give one with several parameter groups"):
        trainer(tmp_path).fit(module, data)


class Watches(EmbeddingModule):
    """Overrides hooks and calls the method it overrides, as on Lightning's page."""

    def training_step(self, step: tuple[Batch, ...]) -> dict[str, Any]:
        output = super().training_step(step)
        self.log("texts", float(sum(len(part.tokens) for part in step)))
        return output

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        self.norms: list[Tensor] = [*getattr(self, "norms", []), next(self.encoder.parameters()).grad.norm()]  # type: ignore[union-attr]


def test_hooks_of_lightning_run(tiny_model: Path, rows: Path, tmp_path: Path) -> None:
    module, data = made(tiny_model, rows, Watches)
    plain = made(tiny_model, rows)[0]
    own = trainer(tmp_path)
    own.fit(module, data)
    assert len(module.norms) == 6
    assert own.callback_metrics["texts"] > 8
    trainer(tmp_path).fit(plain, data)
    assert equal(weights(module), weights(plain))
