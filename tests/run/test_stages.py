"""Stages of a training in a whole run: each with its data, losses, rates and steps; killed, the same command goes on."""

import signal
from pathlib import Path

import pytest
import torch

from lightning_embed import load
from lightning_embed.card.origin import Origin
from lightning_embed.config.compose import check_command
from lightning_embed.config.identity import run_identity
from lightning_embed.errors import ConfigError
from lightning_embed.run import train
from lightning_embed.runtime import fault_injection
from tests.run.test_fit import _weights
from tests.run.test_kills import _run, _same_models
from tests.run.test_train import _cfg, _overrides
from tests.toy import write_toy

STAGES = (
    "+experts.stages={weak: {datasets: [facts], trainer: {max_steps: 5}, batch_size: 16, scheduler: constant, sources: 0},"
    " supervised: {optimizer: {lr: 1e-3}, retrieval_loss: {name: infonce, temperature: 0.1}, scheduler: {name: wsd, "
    "decay_share: 0.5}, sources: 2}}"
)
QUIET = ("experts=joint", "evaluation=none", "logger=none")
pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning warns of itself in a whole run


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def staged(tiny_model: Path, toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("staged")
    train.train(_cfg("train", _overrides(tiny_model, toy, out, *QUIET, STAGES, "merge=slerp")))
    return out


def test_models_and_cards(staged: Path) -> None:
    """The first stage is no source of the merge, and its model stays; the cards name the starts, losses, rates and steps."""
    names = {path.name for path in (staged / "models").iterdir()}
    assert names == {"base", "joint-weak", "joint-snapshot_1", "joint"}
    (merged,) = (staged / "merged").glob("*/model")
    load(merged)
    training = Origin.of(str(staged / "models/joint")).training
    assert training is not None
    assert (training.start, training.steps, list(training.rows)) == ("joint-weak", 6, ["facts", "phrases"])
    assert training.losses["retrieval"]["temperature"] == 0.1
    assert "learning rate 0.001" in training.options["optimizer"]
    assert training.options["learning rate over time"].startswith("wsd")
    assert training.options["rows of a batch"] == "facts 8, phrases 8"


@pytest.mark.slow
def test_a_stage_is_the_run_that_has_its_options(tiny_model: Path, toy: Path, staged: Path, tmp_path: Path) -> None:
    """Bit for bit: from the same start, with the same data, losses, rates and steps."""
    weak = (
        "experts.datasets=[facts]", "trainer.max_steps=5", "data.datasets.facts.batch_size=16", "scheduler=constant",
    )  # fmt: skip
    train.train(_cfg("train", [*_overrides(tiny_model, toy, tmp_path / "one", *QUIET, "merge=none"), *weak]))
    assert torch.equal(_weights(tmp_path / "one/models/joint"), _weights(staged / "models/joint-weak"))
    supervised = (
        "optimizer.lr=1e-3", "retrieval_loss.temperature=0.1", "scheduler=wsd", "scheduler.decay_share=0.5",
    )  # fmt: skip
    start = staged / "models/joint-weak"
    train.train(_cfg("train", [*_overrides(start, toy, tmp_path / "two", *QUIET, "merge=none"), *supervised]))
    assert torch.equal(_weights(tmp_path / "two/models/joint"), _weights(staged / "models/joint"))


@pytest.mark.slow
def test_a_stage_alone_and_then_the_others(tiny_model: Path, toy: Path, staged: Path, tmp_path: Path) -> None:
    """Each by a command of its own, as on machines of their own; with an early stop, snapshots are refused."""
    given = [*_overrides(tiny_model, toy, tmp_path, *QUIET, STAGES, "merge=slerp")]
    for only in ("experts.only=joint-weak", "experts.only=joint", "experts.only=null"):
        train.train(_cfg("train", [*given, only]))
    _same_models(staged, tmp_path)
    stop = ("callback=evaluate", "callback.while_training.patience=2", "evaluation=local")
    with pytest.raises(ConfigError, match=r"joint: patience=2 may stop it before all of its 2 snapshots"):
        train.train(_cfg("train", [*given, f"out={tmp_path}/stop", *stop]))


def test_the_order_of_stages_is_of_the_identity() -> None:
    one, other = (
        run_identity(_cfg("train", [f"+experts.stages={{{stages}}}"])).hash
        for stages in ("a: {datasets: [facts]}, b: {}", "b: {}, a: {datasets: [facts]}")
    )
    assert one != other


@pytest.mark.slow
@pytest.mark.parametrize("point", ["before_step:8", "before_replace:8"])
def test_killed_in_the_second_stage(point: str, tiny_model: Path, toy: Path, staged: Path, tmp_path: Path) -> None:
    """As by kill -9: before its third step, or while the checkpoint of that is replaced; the first stage has five."""
    overrides = _overrides(tiny_model, toy, tmp_path, *QUIET, STAGES, "merge=slerp", "checkpoint_minutes=0")
    assert _run(overrides, tmp_path, **{fault_injection.VARIABLE: point}).wait(300) == -signal.SIGKILL
    assert (tmp_path / "models/joint-weak").exists()
    assert not (tmp_path / "models/joint").exists()
    assert _run(overrides, tmp_path).wait(300) == 0
    _same_models(staged, tmp_path)


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ("{a: {scheduler: wds}}", r"experts.stages.a.scheduler=wds: no such choice. Did you mean 'wsd'"),
        ("{a: {optimizer: {rate: 1}}}", r"experts.stages.a.optimizer.rate: no such option"),
        ("{a: {retrieval_loss: {temperature: -1}}}", r"experts.stages.a.retrieval_loss: .*temperature"),
        ("{a: {parameter_groups: {layer_decay: 2}}}", r"layer_decay must be in \(0, 1\], got 2"),
        ("{a: {steps: 3}}", r"experts.stages.a.steps: no such option"),
    ],
)
def test_refused_before_anything_is_read(stages: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_command("train", [f"+experts.stages={stages}"])


def test_a_rate_that_the_optimiser_refuses(tiny_model: Path, toy: Path, tmp_path: Path) -> None:
    stages = "+experts.stages={a: {}, b: {optimizer: {lr: -1}}}"
    with pytest.raises(ConfigError, match=r"optimizer: Invalid learning rate: -1"):
        train.train(_cfg("train", _overrides(tiny_model, toy, tmp_path, *QUIET, "merge=none", stages)))
