"""Learning-rate schedules whose warm-up is a share of the steps, and the steps of any schedule."""

import math
from collections.abc import Callable
from typing import Literal

from lightning import Trainer
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from lightning_embed.errors import ConfigError, nearest

_SHAPES: dict[str, Callable[[float], float]] = {
    "linear": lambda share: 1 - share,
    "sqrt": lambda share: 1 - math.sqrt(share),
}
"""Shapes of the decay of `wsd`: share of the decay that is over -> factor."""


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


def cosine(optimizer: Optimizer, num_steps: int, warmup_share: float = 0.1) -> LambdaLR:
    """Linear warm-up over `warmup_share` of `num_steps`, then half a cosine to 0 (Loshchilov and Hutter 2017)."""
    warmup = _warmup_steps(num_steps, warmup_share)

    def factor(step: int) -> float:
        over = max(0, step - warmup) / max(1, num_steps - warmup)
        return min(_warmup_factor(step, warmup), (1 + math.cos(math.pi * over)) / 2)

    return LambdaLR(optimizer, factor)


def wsd(
    optimizer: Optimizer, num_steps: int, warmup_share: float = 0.1, decay_share: float = 0.1, shape: str = "linear"
) -> LambdaLR:
    """Warm-up, stable, decay (MiniCPM: Hu et al. 2024, arXiv 2404.06395): constant between warm-up and a decay to 0.

    Args:
        optimizer: optimiser.
        num_steps: steps of the training.
        warmup_share: share of the steps with a linear warm-up.
        decay_share: share of the steps with a decay, at the end; 0: none, for averages of snapshots in its place.
        shape: linear; or sqrt: 1 - sqrt(x) after the share x of the decay (Hagele et al. 2024, arXiv 2405.18392).

    Raises:
        ConfigError: a share out of [0, 1], shares that sum to more than 1, or no such shape.
    """
    warmup, decay = _warmup_steps(num_steps, warmup_share), _steps("decay_share", num_steps, decay_share)
    if warmup_share + decay_share > 1:
        raise ConfigError(
            f"scheduler.warmup_share + decay_share must be at most 1, got {warmup_share} + {decay_share}."
        )
    if shape not in _SHAPES:
        raise ConfigError(f"scheduler.shape={shape}: no such shape. {nearest(str(shape), _SHAPES)}")
    falls = _SHAPES[shape]

    def factor(step: int) -> float:
        over = max(0, step - (num_steps - decay))
        return min(_warmup_factor(step, warmup), falls(min(1.0, over / max(1, decay))))

    return LambdaLR(optimizer, factor)


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
    return _steps("warmup_share", num_steps, share)


def _steps(option: str, num_steps: int, share: float) -> int:
    if not 0 <= share <= 1:
        raise ConfigError(f"scheduler.{option} must be a share in [0, 1], got {share}.")
    return round(share * num_steps)


def _warmup_factor(step: int, warmup: int) -> float:
    return min(1.0, (step + 1) / max(1, warmup))
