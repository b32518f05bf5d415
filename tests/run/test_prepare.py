"""Everything that can be refused is refused in a sentence, before anything is written."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from lightning_embed.config.compose import check_command
from lightning_embed.errors import ConfigError
from lightning_embed.run import train
from lightning_embed.run.prepare import prepare
from tests.run.test_train import _cfg, _overrides
from tests.toy import write_toy

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy(tmp_path_factory.mktemp("toy"))


def _refusal(overrides: list[str]) -> str:
    """The sentence of a command that must not begin."""
    try:
        check_command("train", overrides)
        train.train(_cfg("train", overrides))
    except ConfigError as error:
        return str(error)
    pytest.fail("it was not refused")


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("trainer.max_steps=1.5", r"trainer.max_steps=1.5: expected int"),
        ("trainer.max_steps=nan", r"trainer.max_steps=nan must be a finite number"),
        ("trainer.devices=0", r"trainer: `Trainer\(devices=0\)` value is not a valid input"),
        ("trainer.devices=-2", r"trainer: `devices` selected with `CPUAccelerator` should be an int > 0"),
        ("trainer.devices=[]", r"trainer: `Trainer\(devices=\[\]\)` value is not a valid input"),
        ("trainer.accelerator=foo", r"trainer: You selected an invalid accelerator name: `accelerator='foo'`"),
        ("trainer.strategy=foo", r"trainer.strategy=foo: a run has no such strategy. Known: auto, ddp, .*fsdp"),
        ("trainer.precision=foo", r"trainer.precision=foo: no such choice. .*Known: .*bf16-mixed"),
        ("trainer.precision=bf16-mxied", r"trainer.precision=bf16-mxied: no such choice. Did you mean 'bf16-mixed'"),
        ("trainer.val_check_interval=0", r"trainer.val_check_interval must be positive, got 0"),
        ("trainer.num_nodes=0", r"trainer: `num_nodes` must be a positive integer, but got 0"),
        ("trainer.profiler=foo", r"trainer: When passing string value for the `profiler` parameter"),
        ("optimizer.lr=-1", r"optimizer: Invalid learning rate: -1"),
        ("optimizer.lr=nan", r"optimizer.lr=nan must be a finite number"),
        ("optimizer.betas=[0.9,1.5]", r"optimizer: Invalid beta parameter at index 1: 1.5"),
        ("optimizer.betas=[0.9]", r"optimizer.betas=\[0.9\]: expected tuple"),
        ("optimizer.weight_decay=-1", r"optimizer: Invalid weight_decay value: -1"),
        ("optimizer.eps=-1", r"optimizer: Invalid epsilon value: -1"),
        ("optimizer._target_=torch.optim.AdamWW", r"optimizer._target_=torch.optim.AdamWW: .*AdamWW"),
        ("optimizer._target_=no_such_package.Adam", r"optimizer._target_=no_such_package.Adam: .*no_such_package"),
        ("+optimizer.momentum=0.9", r"optimizer.momentum: torch.optim.AdamW has no such option. .*Known: amsgrad, betas"),
        ("scheduler._target_=lightning_embed.training.lr_schedule.cosin", r"scheduler._target_=\S+cosin: .*cosin"),
        ("scheduler.warmup_share=2", r"scheduler.warmup_share must be a share in \[0, 1\], got 2"),
        ("callback.throughput._target_=lightning_embed.callback.Throughputt", r"callback.throughput._target_=\S+: .*Throughputt"),
        ("+callback.mine={_target_:lightning.pytorch.callbacks.LearningRateMonitor,logging_interval:week}", r"callback.mine: .*week|callback.mine.logging_interval=week: no such choice"),
        ("+logger.csv.flushes=3", r"logger.csv.flushes: \S+CSVLogger has no such option. Did you mean 'flush_logs_every_n_steps'|logger.csv.flushes: \S+ has no such option"),
        ("logger.csv._target_=lightning.CSV", r"logger.csv._target_=lightning.CSV: .*CSV"),
        ("evaluation._target_=lightning_embed.evaluation.Locale", r"evaluation._target_=\S+: .*Locale"),
        ("evaluation.splits=[dev,tset]", r"evaluation.splits: 'tset' is no split. Did you mean 'test'"),
        ("optimizer.lr=${nowhere}", r"optimizer.lr=\$\{nowhere\}: Interpolation key 'nowhere' not found"),
        ("name=${optimizer.lrr}", r"name=\$\{optimizer.lrr\}: Interpolation key 'optimizer.lrr' not found"),
        ("seed=${no_resolver:1}", r"seed=\$\{no_resolver:1\}: Unsupported interpolation type no_resolver"),
    ],
)  # fmt: skip
def test_a_component_is_refused_in_one_sentence(
    override: str, sentence: str, tiny_model: Path, toy: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    said = _refusal([*_overrides(tiny_model, toy, out), "logger=csv", override])
    assert re.match(sentence, said), said
    assert "\n" not in said
    assert len(said) < 700
    assert not out.exists()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", r"data=mine: its file holds nothing; expected 'defaults: \[schema/data@_here_\]' and options"),
        ("# nothing\n", r"data=mine: its file holds nothing; expected 'defaults: \[schema/data@_here_\]' and options"),
        ("- a\n- b\n", r"data=mine: its file holds a list"),
        ("just text\n", r"data=mine: its file holds options without a schema"),
        ("defaults: [schema/data@_here_]\nroot: null\ndatasets:\n", r"data.datasets"),
        ("root: null\n", r"data=mine: its file holds options without a schema"),
        ("a: [1\n", r"\S*mine.yaml: line 2"),
    ],
)
def test_a_file_that_holds_no_options(content: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.yaml").write_text(content)
    with pytest.raises(ConfigError) as caught:
        check_command("train", ["data=mine"], str(tmp_path))
    said = str(caught.value)
    assert re.match(sentence, said), said
    assert "\n" not in said


def test_nothing_is_written_before_a_run_begins(tiny_model: Path, toy: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    given = ["experts=per_cluster", "experts.by=embedding", "experts.num_clusters=2", "merge=self_positioning"]
    prepared = prepare(_cfg("train", [*_overrides(tiny_model, toy, out), *given]))
    assert len(prepared.trainings) == 2
    assert not out.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "override", ["trainer.precision=foo", "optimizer._target_=torch.optim.Adamm", "optimizer.lr=${nowhere}"]
)
def test_a_refused_command_ends_with_status_2_and_one_line(
    override: str, tiny_model: Path, toy: Path, tmp_path: Path
) -> None:
    given = [
        override if o.startswith(override.partition("=")[0]) else o
        for o in _overrides(tiny_model, toy, tmp_path / "run")
    ]
    command = [sys.executable, str(ROOT / "train.py"), *given, override]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=300)
    assert done.returncode == 2
    assert done.stderr.startswith("ConfigError: ")
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())
