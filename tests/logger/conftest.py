"""One small run with everything that is logged, in csv, W&B (offline) and, where it is installed, TensorBoard."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from lightning_embed.run import train
from tests.run.test_train import _cfg, _overrides
from tests.toy import write_toy

TENSORBOARD = (
    "+logger.tensorboard={_target_:lightning_embed.logger.tensorboard.TensorBoardLogger,"
    "save_dir:'${out}/tensorboard',name:'${part.name}',version:''}"
)


def run_overrides(tiny_model: Path, toy: Path, out: Path, *more: str) -> list[str]:
    return _overrides(
        tiny_model, toy, out, "logger=wandb", "callback=diagnostics", "callback.gradient_conflict.every_n_steps=2",
        "callback.gradient_conflict.by=dataset", "experts=bagging", "experts.bag_shares=[0.5,1.0]", "trainer.max_steps=4",
        "trainer.val_check_interval=2", "merge=self_positioning", "merge.steps=3", "doctor=landscape", "doctor.points=1",
        "doctor.grid=2", "doctor.batches=1", *more,
    )  # fmt: skip


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="session")
def logged(tiny_model: Path, toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the run."""
    out = tmp_path_factory.mktemp("logged") / "run"
    more = [TENSORBOARD] if find_spec("tensorboard") else []
    train.train(_cfg("train", run_overrides(tiny_model, toy, out, *more)))
    return out
