"""Options and callbacks of Lightning's Trainer that the module does itself, or that its steps would make wrong.

Lightning refuses some of them without naming ours, and takes others without a word. On the command line they are
refused before anything is read (`config.trainer_options`).
"""

from collections.abc import Iterator
from typing import Any

from lightning import Trainer
from lightning.pytorch.callbacks import (
    BatchSizeFinder,
    Callback,
    GradientAccumulationScheduler,
    LearningRateFinder,
    StochasticWeightAveraging,
)
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy
from lightning.pytorch.utilities import GradClipAlgorithmType

from lightning_embed.errors import ConfigError

_ACCUMULATE = "the sampler accumulates, as in BatchShuffle(accumulate=4)"
_CALLBACKS: dict[type[Callback], str] = {
    StochasticWeightAveraging: (
        "it replaces the schedule and repeats an epoch without steps, which a module that takes its own steps cannot; "
        "use Lightning's WeightAveraging, or experts.ema=0.999 in a run"
    ),
    GradientAccumulationScheduler: _ACCUMULATE,
    BatchSizeFinder: (
        "a batch size is of a dataset, and decides what a loss compares, so that more memory is no reason to change it; "
        "use EmbeddingModule(step='cached'), with which any batch fits"
    ),
}


def check_trainer(trainer: Trainer) -> None:
    """Refuse options with which a training would differ from what its trainer says.

    Raises:
        ConfigError: one line for each, with what to use.
    """
    if problems := [*_options(trainer), *_callbacks(trainer)]:
        raise ConfigError("\n".join(problems))


def _options(trainer: Trainer) -> Iterator[str]:
    clip = trainer.gradient_clip_val
    by_value = trainer.gradient_clip_algorithm == GradClipAlgorithmType.VALUE
    if clip or by_value:
        shown = f"gradient_clip_val={clip}" if clip else "gradient_clip_algorithm='value'"
        yield (
            f"Trainer({shown}): the module takes its own steps and clips by the norm; leave it out, and use "
            f"EmbeddingModule(max_grad_norm={clip or 1.0}), or max_grad_norm={clip or 1.0} in a run."
        )
    if (batches := trainer.accumulate_grad_batches) != 1:
        yield (
            f"Trainer(accumulate_grad_batches={batches}): the module takes its own steps; leave it out: {_ACCUMULATE}, "
            f"or sampler.accumulate={batches} in a run."
        )
    if (precision := str(trainer.precision)) in ("16-mixed", "16-true", "transformer-engine-float16"):
        yield (
            f"Trainer(precision={precision!r}): expected no float16, in which losses must be scaled and small updates "
            "are lost; use precision='32-true', with which the encoder computes in bfloat16 where that is fast."
        )
    if isinstance(trainer.strategy, (DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy)):
        yield (
            f"Trainer(strategy={type(trainer.strategy).__name__}()): its weights are not where the steps of the module "
            "take them; use Trainer(strategy=lightning_embed.training.sharded.Sharded()), or trainer.strategy=fsdp in a run."
        )
    if trainer.world_size > 1 and _shards(trainer):
        yield (
            f"Trainer(use_distributed_sampler=True) on {trainer.world_size} devices: the batch sampler takes the rows "
            "of its rank itself; use Trainer(use_distributed_sampler=False)."
        )


def _shards(trainer: Trainer) -> bool:
    connector: Any = trainer._accelerator_connector
    return bool(connector.use_distributed_sampler)


def _callbacks(trainer: Trainer) -> Iterator[str]:
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        for kind, reason in _CALLBACKS.items():
            if isinstance(callback, kind):
                yield f"{type(callback).__name__}: {reason}."
        if isinstance(callback, LearningRateFinder) and not callback._early_exit:
            yield (
                "LearningRateFinder: the schedule would set the configured rate again at the next step; search first, "
                "by Tuner(trainer).lr_find(module, datamodule=...), and then fit."
            )
