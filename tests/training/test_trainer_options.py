"""Options of a Trainer from Python that the module does itself: one sentence with our option's name."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from lightning import Trainer
from lightning.pytorch.callbacks import (
    BatchSizeFinder,
    Callback,
    EarlyStopping,
    GradientAccumulationScheduler,
    LearningRateFinder,
    LearningRateMonitor,
    ModelCheckpoint,
    StochasticWeightAveraging,
    Timer,
    WeightAveraging,
)
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.tuner import Tuner

from lightning_embed.errors import ConfigError
from lightning_embed.training.sharded import Sharded
from lightning_embed.training.trainer_options import check_trainer
from tests.training.lightning import made, trainer

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's, of a trainer without many workers
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"gradient_clip_val": 0.5}, r"EmbeddingModule\(max_grad_norm=0.5\)"),
    ({"gradient_clip_val": 2}, r"Trainer\(gradient_clip_val=2\).*max_grad_norm=2 in a run"),
    ({"gradient_clip_val": 0.5, "gradient_clip_algorithm": "norm"}, r"max_grad_norm=0.5"),
    ({"gradient_clip_algorithm": "value"}, r"gradient_clip_algorithm='value'.*clips by the norm"),
    ({"accumulate_grad_batches": 2}, r"BatchShuffle\(accumulate=4\).*sampler.accumulate=2"),
    ({"accumulate_grad_batches": 8}, r"sampler.accumulate=8"),
    ({"callbacks": [StochasticWeightAveraging(1e-2)]}, "StochasticWeightAveraging: .*WeightAveraging, or experts.ema"),
    ({"callbacks": [StochasticWeightAveraging(1e-2, swa_epoch_start=1)]}, "replaces the schedule"),
    ({"callbacks": [GradientAccumulationScheduler({0: 2})]}, r"GradientAccumulationScheduler: .*accumulate=4"),
    ({"callbacks": [BatchSizeFinder()]}, r"BatchSizeFinder: .*step='cached'"),
    ({"callbacks": [LearningRateFinder()]}, r"LearningRateFinder: .*Tuner\(trainer\).lr_find"),
    (
        {"strategy": ModelParallelStrategy()},
        r"ModelParallelStrategy\(\)\): .*sharded.Sharded\(\)\), or trainer.strategy=fsdp",
    ),
    ({"accumulate_grad_batches": 2, "gradient_clip_val": 1.0}, r"(?s)max_grad_norm.*\n.*sampler.accumulate=2"),
]
KEPT: list[dict[str, Any]] = [
    {},
    {"gradient_clip_val": 0},
    {"gradient_clip_val": None},
    {"gradient_clip_algorithm": "norm"},
    {"accumulate_grad_batches": 1},
    {"precision": "bf16-mixed"},
    {"precision": "64-true"},
    {"strategy": Sharded()},
    {"use_distributed_sampler": True},  # on one device it does nothing
    {"overfit_batches": 2},
    {"limit_train_batches": 3},
    {"callbacks": [EarlyStopping("dev/loss/pairs"), LearningRateMonitor(), Timer(timedelta(hours=1)), Callback()]},
    {"callbacks": [WeightAveraging(), ModelCheckpoint(every_n_train_steps=2)], "enable_checkpointing": True},
]


@pytest.mark.parametrize(
    ("options", "answer"), REFUSED, ids=[f"{i}-{next(iter(o))}" for i, (o, _) in enumerate(REFUSED)]
)
def test_refused_with_our_option(options: dict[str, Any], answer: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=answer):
        check_trainer(trainer(tmp_path, **options))


@pytest.mark.parametrize("options", KEPT, ids=map(str, range(len(KEPT))))
def test_kept(options: dict[str, Any], tmp_path: Path) -> None:
    check_trainer(trainer(tmp_path, **options))


@pytest.mark.parametrize("precision", ["16-mixed", "16-true", "transformer-engine-float16"])
def test_float16_and_sharding_are_answered(precision: str, tmp_path: Path) -> None:
    """Of a trainer with GPUs: on a CPU Lightning itself turns float16 into bfloat16."""
    own = trainer(tmp_path, use_distributed_sampler=True)
    own.__class__ = type("OnTwoGpus", (Trainer,), {"precision": precision, "world_size": 2})
    with pytest.raises(ConfigError, match=r"(?s)expected no float16.*\n.*use_distributed_sampler=False"):
        check_trainer(own)


@pytest.mark.parametrize("options", [{"gradient_clip_val": 1.0}, {"accumulate_grad_batches": 2}])
def test_a_fit_asks(options: dict[str, Any], tiny_model: Path, rows: Path, tmp_path: Path) -> None:
    """Before Lightning's own sentence; a test, which takes no steps, does not ask."""
    module, data = made(tiny_model, rows)
    with pytest.raises(ConfigError, match="the module takes its own steps"):
        trainer(tmp_path, **options).fit(module, data)
    trainer(tmp_path, limit_val_batches=1, **options).validate(module, data, verbose=False)


def test_a_search_for_a_batch_size_is_answered(tiny_model: Path, rows: Path, tmp_path: Path) -> None:
    module, data = made(tiny_model, rows)
    with pytest.raises(ConfigError, match="step='cached'"):
        Tuner(trainer(tmp_path)).scale_batch_size(module, datamodule=data)
