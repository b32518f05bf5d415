"""Learning-rate schedules whose warm-up is a share of the steps, and the steps of any schedule."""

from typing import Literal

from lightning import Trainer
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from lightning_embed.errors import ConfigError


def linear(optimizer: Optimizer, num_steps: int, warmup_share: float = 0.1) -> LambdaLR:
    """Linear warm-up over `warmup_share` of `num_steps` from a rate above 0, then linear decay to 0."""
    warmup = _warmup_steps(num_steps, warmup_share)
    return LambdaLR(
        optimizer, lambda step: min(_warmup_factor(step, warmup), (num_steps - step) / max(1, num_steps - warmup))
    )


def constant(optimizer: Optimizer, num_steps: int, warmup_share: float = 0.1) -> LambdaLR:
    """Linear warm-up over `warmup_share` of `num_steps` from a rate above 0, then constant."""
    warmup = _warmup_steps(num_steps, warmup_share)
    return LambdaLR(optimizer, lambda step: _warmup_factor(step, warmup))


def step_schedulers(trainer: Trainer, interval: Literal["step", "epoch"]) -> None:
    """Step the schedulers of this interval, at their own frequency: under manual optimisation Lightning steps none.

    One that follows a metric (ReduceLROnPlateau) is left to a hook of the module: Lightning drops the metric's name, and
    says so.
    """
    done = trainer.global_step if interval == "step" else trainer.current_epoch + 1
    for config in trainer.lr_scheduler_configs:
        is_due = config.interval == interval and not done % config.frequency
        if is_due and not isinstance(config.scheduler, ReduceLROnPlateau):
            config.scheduler.step()


def _warmup_steps(num_steps: int, share: float) -> int:
    if not 0 <= share <= 1:
        raise ConfigError(f"scheduler.warmup_share must be a share in [0, 1], got {share}.")
    return round(share * num_steps)


def _warmup_factor(step: int, warmup: int) -> float:
    return min(1.0, (step + 1) / max(1, warmup))
