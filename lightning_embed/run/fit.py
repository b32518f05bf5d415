"""Training of one expert: from its start, through its snapshots, to the directory of the finished model."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from lightning.pytorch.callbacks import Callback
from omegaconf import DictConfig

from lightning_embed.callback import ExponentialAverage, Snapshots, WhileTraining
from lightning_embed.callback.evaluate import CHOICE, read_choice
from lightning_embed.callback.resume import FILE as CHECKPOINT
from lightning_embed.errors import ConfigError
from lightning_embed.experts import Expert, ExpertPlan
from lightning_embed.logger import lineage, run_log
from lightning_embed.logger.open import open_loggers
from lightning_embed.run import build
from lightning_embed.run.plan import PlannedTraining, print_plan
from lightning_embed.run.terminal import console
from lightning_embed.runtime import distributed, fault_injection
from lightning_embed.training.module import EmbeddingModule
from lightning_embed.types import BASE

_WAIT = 60  # seconds between two words of rank zero to the others, which give up on it after half an hour


def fit(cfg: DictConfig, plan: ExpertPlan, training: PlannedTraining, out: Path) -> None:
    """Train one expert, or go on from its last checkpoint; a finished one is left as it is.

    Raises:
        ConfigError: it starts from an expert that is not trained yet.
    """
    expert = training.expert
    checkpoints, target = out / "checkpoints" / expert.name, out / "models" / expert.name
    with _alone(expert, checkpoints):
        if distributed.of_first(float(target.exists())):
            console.print(f"{expert.name}: trained already, {target}")
        else:
            _fit(cfg, plan, training, out)
    training.batches.trainer = None  # it holds the module, whose weights and moments need not stay in memory
    fault_injection.point("between_experts")
    distributed.barrier()  # another rank may start the next expert from this one


@contextmanager
def _alone(expert: Expert, checkpoints: Path) -> Iterator[None]:
    """Jobs of a sweep that share an expert train it once: the first does, the others wait for it."""
    checkpoints.mkdir(parents=True, exist_ok=True)
    lock, seconds = FileLock(checkpoints / "lock"), 0
    while not distributed.of_first(
        float(distributed.launched_rank() != 0 or _got(lock, seconds))
    ):  # the other ranks wait with the first
        if seconds == 0 and distributed.launched_rank() == 0:
            console.print(f"{expert.name}: another process is training it; waiting")
        seconds = _WAIT
    try:
        yield
    finally:
        lock.release()


def _got(lock: FileLock, seconds: int) -> bool:
    """Whether the lock was free within that time."""
    try:
        lock.acquire(timeout=seconds)
    except Timeout:
        return False
    return True


def _fit(cfg: DictConfig, plan: ExpertPlan, training: PlannedTraining, out: Path) -> None:
    expert, batches = training.expert, training.batches
    models, checkpoints = out / "models", out / "checkpoints" / expert.name
    model = build.encoder(cfg, batches.datasets, start=_start(expert, models))
    tasks = {rows.options.task for rows in batches.train_rows.values()}
    extra = _extra(plan, expert, models, batches.num_steps(cfg.trainer.max_steps, cfg.trainer.max_epochs))
    checkpoint = checkpoints / CHECKPOINT
    with open_loggers(cfg, expert.name, "train") as loggers:
        trainer = build.trainer(cfg, loggers, checkpoints, extra)
        print_plan(training, trainer)
        module = build.module(cfg, model, tasks, expert)
        trainer.fit(module, batches, ckpt_path=str(checkpoint) if checkpoint.exists() else None)
        if trainer.interrupted:
            raise KeyboardInterrupt
        fault_injection.point("before_export")
        if distributed.rank() == 0:
            for callback in trainer.callbacks:  # type: ignore[attr-defined]
                if isinstance(callback, WhileTraining):
                    callback.finish(model, trainer.global_step, checkpoints / CHOICE)
            _export(module, extra, models / expert.name)
            checkpoint.unlink(missing_ok=True)
            _log(cfg, loggers, plan, training, out)


def num_rows(cfg: DictConfig, training: PlannedTraining, out: Path) -> float:
    """Rows that the training of a finished expert went through; fewer than planned, where it stopped early."""
    limits = (cfg.trainer.max_steps, cfg.trainer.max_epochs)
    batches = training.batches
    return batches.num_rows(*limits) * _last_step(cfg, training, out) / batches.num_steps(*limits)


def _last_step(cfg: DictConfig, training: PlannedTraining, out: Path) -> int:
    """The last step of a finished training."""
    if choice := read_choice(out / "checkpoints" / training.expert.name):
        return int(choice["last_step"])
    return training.batches.num_steps(cfg.trainer.max_steps, cfg.trainer.max_epochs)


def _start(expert: Expert, models: Path) -> Path | None:
    """The model that an expert starts from; None: the base."""
    if expert.start == BASE:
        return None
    if not (models / expert.start).exists():
        raise ConfigError(
            f"{expert.name} starts from {expert.start}, and there is no {models / expert.start}: "
            f"train that first (experts.only={expert.start}), or all in one command."
        )
    return models / expert.start


def _extra(plan: ExpertPlan, expert: Expert, models: Path, num_steps: int) -> list[Callback]:
    """What makes the other sources of an expert's training."""
    names = plan.sources(expert)
    steps = [round(num_steps * number / plan.snapshots) for number in range(1, plan.snapshots)]
    snapshots = Snapshots({step: models / name for step, name in zip(steps, names, strict=False)})
    return [snapshots] + ([ExponentialAverage(plan.ema, models / names[-2])] if plan.ema is not None else [])


def _log(cfg: DictConfig, loggers: Sequence[Any], plan: ExpertPlan, training: PlannedTraining, out: Path) -> None:
    """Log the rows and the models of a training."""
    expert = training.expert
    rows = _plan(training, _last_step(cfg, training, out))
    run_log.log_plan(loggers, rows)
    run_log.log_conflict(loggers, Path(cfg.out), expert.name)
    start = lineage.LoggedModel(expert.start, out / "models" / expert.start)
    facts = {"expert": expert.name, "experts": cfg.experts.name, "trained_on": rows}
    for number, name in enumerate(plan.sources(expert), start=1):
        model = lineage.LoggedModel(name, out / "models" / name)
        seen = min(1.0, number / plan.snapshots)  # as `cost` counts: an average ends with the expert
        lineage.log_expert(loggers, cfg, model, start, facts | {"share_of_training": seen})


def _plan(training: PlannedTraining, steps: int) -> list[dict[str, Any]]:
    """The datasets of a training, a row each, and how long it went through them."""
    expert, stream = training.expert, training.batches.steps()
    return [
        {
            "expert": expert.name,
            "start": expert.start,
            "dataset": name,
            "task": feed.task,
            "rows": feed.num_rows,
            "batch_size": feed.batch_size,
            "steps_of_expert": steps,
            "share_of_batches": count / sum(stream.num_batches.values()),
            "rows_trained_on": steps * count * stream.schedule.batch_rows(feed) / len(stream),
        }
        for name, count in stream.num_batches.items()
        for feed in [stream.datasets[name]]
    ]


def _export(module: EmbeddingModule, extra: Sequence[Callback], target: Path) -> None:
    """Save the expert, after its average: a directory of the expert says that all of its sources are there."""
    for callback in extra:
        if isinstance(callback, ExponentialAverage):
            callback.export(module)
    module.encoder.export(target)
