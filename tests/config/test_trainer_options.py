"""Options of Lightning's Trainer that would end a training early, do nothing, or change it: each is one sentence."""

import pytest
from omegaconf import OmegaConf

from lightning_embed.config.compose import check_command
from lightning_embed.config.trainer_options import callback_problems, trainer_problems
from lightning_embed.errors import ConfigError

REFUSED = {
    "+trainer.fast_dev_run=true": "trainer.max_steps",
    "+trainer.fast_dev_run=3": "inspect=true",
    "+trainer.limit_train_batches=2": "trainer.max_steps",
    "+trainer.limit_train_batches=1": "trainer.max_steps",  # one batch, and not the share 1.0
    "+trainer.limit_train_batches=0.5": "trainer.max_epochs",
    "+trainer.limit_train_batches=0": "trainer.max_steps",
    "+trainer.overfit_batches=4": "trainer.max_steps",
    "+trainer.overfit_batches=0.1": "trainer.max_steps",
    "+trainer.max_time='00:01:00:00'": "trainer.max_steps",
    "+trainer.max_time={hours: 3}": "trainer.max_steps",
    "+trainer.min_steps=10": "callback.while_training.patience",
    "+trainer.min_epochs=1": "trainer.max_epochs",
    "+trainer.accumulate_grad_batches=4": "sampler.accumulate",
    "+trainer.gradient_clip_val=1.0": "max_grad_norm",
    "+trainer.gradient_clip_algorithm=value": "max_grad_norm",
    "+trainer.reload_dataloaders_every_n_epochs=1": "nothing to reload",
    "trainer.use_distributed_sampler=true": "leave it false",
    "+trainer.barebones=true": "callback=none logger=none",
    "+trainer.limit_test_batches=3": "evaluation.max_dev_queries",
    "+trainer.limit_predict_batches=0.5": "evaluation.max_dev_queries",
    "+trainer.callbacks=[]": "callback.<name>",
    "+trainer.logger=true": "logger=csv",
    "+trainer.plugins=[]": "leave it out",
    "+trainer.default_root_dir=/x": "out=<folder>",
    "trainer.precision=16-mixed": "encoder.dtype=bfloat16",
    "trainer.precision=16": "encoder.dtype=bfloat16",
    "trainer.precision=16-true": "encoder.dtype=bfloat16",
    "trainer.strategy=deepspeed": "use trainer.strategy=fsdp",
    "trainer.strategy=deepspeed_stage_3_offload": "DeepSpeed",
    "trainer.strategy=fsdp_cpu_offload": "use trainer.strategy=fsdp",
    "trainer.strategy=fdsp": "Did you mean 'fsdp'?",
    "trainer.strategy=ddp_spawn": "no such strategy",
    "trainer.strategy={_target_: lightning.pytorch.strategies.FSDPStrategy}": "use trainer.strategy=fsdp",
    "trainer.strategy={_target_: lightning.pytorch.strategies.DeepSpeedStrategy, stage: 3}": "DeepSpeed",
    "trainer.strategy={_target_: lightning.pytorch.strategies.ModelParallelStrategy}": "use trainer.strategy=fsdp",
    "+callback.a={_target_: lightning.pytorch.callbacks.EarlyStopping, monitor: dev/loss/facts}": "patience=3",
    "+callback.a={_target_: lightning.pytorch.callbacks.early_stopping.EarlyStopping, monitor: x}": "patience=3",
    "+callback.a={_target_: lightning.pytorch.callbacks.Timer, duration: '00:00:10:00'}": "trainer.max_steps",
    "+callback.a={_target_: lightning.pytorch.callbacks.GradientAccumulationScheduler}": "accumulate",
    "+callback.a={_target_: lightning.pytorch.callbacks.StochasticWeightAveraging, swa_lrs: 0.1}": "experts.ema",
}
KEPT = [
    "+trainer.fast_dev_run=false",
    "+trainer.limit_train_batches=1.0",
    "+trainer.limit_train_batches=null",
    "+trainer.overfit_batches=0",
    "+trainer.max_time=null",
    "+trainer.accumulate_grad_batches=1",
    "+trainer.barebones=false",
    "trainer.num_sanity_val_steps=2",
    "trainer.strategy=auto",
    "trainer.strategy=ddp",
    "trainer.strategy=fsdp",
    "trainer.strategy={_target_: lightning.pytorch.strategies.DDPStrategy, static_graph: true}",
    "trainer.limit_val_batches=0",
    "+trainer.detect_anomaly=true",
    "trainer.precision=bf16-true",
    "trainer.precision=bf16-mixed",
    "trainer.precision=64-true",
    "trainer.enable_checkpointing=true",
    "trainer.benchmark=true",
    "trainer.log_every_n_steps=10",
    "+callback.a={_target_: lightning.pytorch.callbacks.Timer, interval: epoch}",
]


def _problems(option: str) -> list[str]:
    config = OmegaConf.from_dotlist([option.removeprefix("+")])
    return [*trainer_problems(config.get("trainer", OmegaConf.create())), *callback_problems(config.get("callback"))]


@pytest.mark.parametrize("option", REFUSED)
def test_refused_with_the_word_to_use(option: str) -> None:
    (line,) = _problems(option)
    assert REFUSED[option] in line
    assert option.removeprefix("+").partition("=")[0] in line


@pytest.mark.parametrize("option", KEPT)
def test_kept(option: str) -> None:
    assert not _problems(option)


def test_the_command_line_reports_all_in_one_go() -> None:
    given = [
        option for option in REFUSED if option.startswith(("+trainer.fast_dev_run=true", "+trainer.gradient_clip_val"))
    ]
    given += ["trainer.precision=16-mixed", "encoder.dtype=float16"]
    with pytest.raises(ConfigError) as refusal:
        check_command("train", [*given, next(key for key in REFUSED if "Timer" in key)])
    assert len(str(refusal.value).splitlines()) == 5


def test_the_default_trainer_is_kept() -> None:
    check_command("train", [])
