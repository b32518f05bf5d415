"""Options and callbacks of Lightning that would end a training early, do nothing, or change it.

A run plans the steps of every training: they decide the schedule of the learning rate, the snapshots, the costs and the
model cards. An option that breaks the plan is refused with the option that does the same here.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import DictConfig

from lightning_embed.errors import nearest

FSDP = "fsdp"
"""The word for our own `training.sharded.Sharded`."""
_STRATEGIES = ("auto", "ddp", "ddp_find_unused_parameters_false", "ddp_find_unused_parameters_true", FSDP)
_SHARDED = "use trainer.strategy=fsdp, which divides weights, gradients and the optimiser's state among the devices"
_DEEPSPEED = f"DeepSpeed keeps weights and steps of its own, which no checkpoint and no export here reads; {_SHARDED}"
_NOT_STRATEGIES = {
    "deepspeed": _DEEPSPEED,
    "DeepSpeedStrategy": _DEEPSPEED,
    "fsdp_cpu_offload": f"shards stay on their devices; {_SHARDED}",
    "FSDPStrategy": f"the steps of the module run outside of what it wraps; {_SHARDED}",
    "ModelParallelStrategy": f"it expects a module that divides itself; {_SHARDED}",
}
_STEPS = "use trainer.max_steps, which the schedule follows"
_BY_SCORE = "use callback=evaluate callback.while_training.patience=3, which stops by dev scores"
_NO_EFFECT = "it has no effect: a run only fits and validates. Use evaluation.max_dev_queries for fewer texts"
_OWN = "the run sets it"

_REFUSED: Mapping[str, tuple[tuple[Any, ...], str]] = {
    "fast_dev_run": ((False, 0), f"it ends a training after a few batches; {_STEPS}, or inspect=true to train nothing"),
    "limit_train_batches": ((1.0,), f"it ends every epoch early; {_STEPS}, or trainer.max_epochs"),
    "overfit_batches": (
        (0, 0.0),
        f"it trains on a few batches and validates on them; {_STEPS}, and a smaller data file",
    ),
    "max_time": ((), f"it ends a training by the clock, before its last step; {_STEPS}. The same command goes on"),
    "min_steps": ((), f"a training ends at its last step; {_STEPS}. To stop earlier, {_BY_SCORE}"),
    "min_epochs": ((), "a training ends at its last step; use trainer.max_epochs"),
    "accumulate_grad_batches": ((1,), "the module takes its own steps; use sampler.accumulate"),
    "gradient_clip_val": ((), "the module takes its own steps; use max_grad_norm"),
    "gradient_clip_algorithm": ((), "the module takes its own steps and clips by the norm; use max_grad_norm"),
    "reload_dataloaders_every_n_epochs": ((0,), "rows are a function of seed and step, so there is nothing to reload"),
    "use_distributed_sampler": ((False,), "the batch sampler takes the slice of its rank itself; leave it false"),
    "barebones": ((False,), "it runs without loggers and callbacks; use callback=none logger=none"),
    "limit_test_batches": ((1.0,), _NO_EFFECT),
    "limit_predict_batches": ((1.0,), _NO_EFFECT),
    "callbacks": ((), f"{_OWN} from the group callback; use +callback.<name>._target_=..."),
    "logger": ((), f"{_OWN} from the group logger; use logger=csv, tensorboard or wandb"),
    "plugins": ((), f"{_OWN}: checkpoints are written by its own plugin; leave it out"),
    "default_root_dir": ((), f"{_OWN}; use out=<folder>"),
}
"""Option -> the values that change nothing, besides null; what it does, and what to use. One batch, 1, is not 1.0."""

_PRECISIONS = {
    **dict.fromkeys(
        ("16", "16-mixed", "transformer-engine-float16"),
        "it scales the loss, and max_grad_norm and the check of each step would see scaled gradients",
    ),
    "16-true": "in float16 the eps of AdamW is 0, and most updates are lost",
}
_CALLBACKS = {
    "EarlyStopping": _BY_SCORE,
    "Timer": f"it ends a training by the clock; {_STEPS}",
    "GradientAccumulationScheduler": "the module takes its own steps; use sampler.accumulate",
    "BatchSizeFinder": "a batch size is of a dataset, and part of what is trained; use step=cached, with which any batch fits",
    "LearningRateFinder": "the rate is part of the plan and of the run's name; use -m optimizer.lr=1e-5,2e-5,5e-5",
    "StochasticWeightAveraging": "its average is of no use without automatic optimisation; use experts.ema=0.999",
}


def trainer_problems(trainer: DictConfig) -> Iterator[str]:
    """One sentence for each option of the trainer that would break the plan of a run."""
    for key, (harmless, reason) in _REFUSED.items():
        value = trainer.get(key)
        if value is not None and not any(value == each and type(value) is type(each) for each in harmless):
            yield f"trainer.{key}={value}: {reason}."
    yield from _strategy_problems(trainer.get("strategy"))
    if (precision := str(trainer.get("precision"))) in _PRECISIONS:
        yield (
            f"trainer.precision={precision}: {_PRECISIONS[precision]}; use encoder.dtype=bfloat16, which leaves the "
            "weights in float32."
        )


def _strategy_problems(strategy: Any) -> Iterator[str]:
    """A sentence about a strategy by which a run cannot train; classes of other packages are left to Lightning."""
    if strategy is None:
        return
    word = strategy.get("_target_", "") if isinstance(strategy, DictConfig) else str(strategy)
    kind = word.rpartition(".")[2]
    if reason := _NOT_STRATEGIES.get("deepspeed" if kind.startswith("deepspeed") else kind):
        yield f"trainer.strategy={word}: {reason}."
    elif not isinstance(strategy, DictConfig) and word not in _STRATEGIES:
        yield f"trainer.strategy={word}: a run has no such strategy. {nearest(word, _STRATEGIES)}"


def callback_problems(callbacks: DictConfig | None, trainer: DictConfig | None = None) -> Iterator[str]:
    """One sentence for each callback of Lightning that would break the plan of a run, or that the trainer lacks."""
    for key, node in (callbacks or {}).items():
        package, _, word = str(node.get("_target_")).rpartition(".")
        is_clock = word == "Timer" and node.get("duration") is None  # it only measures
        if package.startswith(("lightning.", "pytorch_lightning.")) and word in _CALLBACKS and not is_clock:
            yield f"callback.{key!s}: {word} does not fit a planned training; {_CALLBACKS[word]}."
        if word == "GradientConflict" and trainer is not None and trainer.get("strategy") == FSDP:
            yield (
                f"callback.{key!s}: {word} takes gradients of whole weights, which trainer.strategy=fsdp has on no device; "
                "leave it out, or use trainer.strategy=ddp."
            )
        if word == "ModelCheckpoint" and trainer is not None and not trainer.get("enable_checkpointing", True):
            yield f"callback.{key!s}: {word} saves nothing with trainer.enable_checkpointing=false; set it to true."
