"""Training of one expert: from its start, through its snapshots, to the directory of the finished model."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from lightning import Trainer
from lightning.pytorch.callbacks import Callback

from lightning_embed.callback import ExponentialAverage, Snapshots, WhileTraining
from lightning_embed.callback.evaluate import CHOICE, read_choice
from lightning_embed.callback.resume import FILE as CHECKPOINT
from lightning_embed.callback.resume import Owner, resumable
from lightning_embed.config.identity import run_identity
from lightning_embed.errors import ConfigError, TrainingError
from lightning_embed.experts import Expert, ExpertPlan
from lightning_embed.logger import lineage, run_log
from lightning_embed.logger.open import open_loggers
from lightning_embed.merge import Source
from lightning_embed.merge.checkpoint.reader import ModelDirectory
from lightning_embed.run import build, finished
from lightning_embed.run.plan import PlannedTraining, print_plan
from lightning_embed.run.ranks import form_group
from lightning_embed.run.terminal import console
from lightning_embed.runtime import distributed, fault_injection, signals
from lightning_embed.sampler.seen import rows_seen
from lightning_embed.storage import mirroring
from lightning_embed.storage.checksum import digest
from lightning_embed.storage.publish import discard
from lightning_embed.training.module import EmbeddingModule
from lightning_embed.types import BASE

_WAIT = 60  # seconds between two collectives, which time out after half an hour


def fit(plan: ExpertPlan, training: PlannedTraining, out: Path) -> None:
    """Train one expert, from its last checkpoint if one exists; a finished expert is not trained again.

    Raises:
        ConfigError: it starts from an expert that is not trained yet.
        TrainingError: it diverged or ended early; or an earlier version exported such a model.
    """
    form_group()
    expert = training.expert
    checkpoints, target = out / "checkpoints" / expert.name, out / "models" / expert.name
    with _alone(expert, checkpoints, first=distributed.rank() == 0):
        if distributed.of_first(float(target.exists())):
            finished.verify(out, plan.models(expert))
            if distributed.rank() == 0:
                console.print(f"{expert.name}: trained already, {target}")
            _refuse_not_finite([out / "models" / name for name in plan.models(expert)])
        else:
            signals.grace = training.cfg.grace_seconds
            with signals.deferred():
                _fit(plan, training, out)
            mirroring.published()
    training.batches.trainer = None  # frees the weights and moments of the module
    fault_injection.point("between_experts")
    distributed.barrier()  # another rank may start the next expert from this one


def _refuse_not_finite(models: Iterable[Path]) -> None:
    """Refuse finished models with NaN or infinity, which earlier versions exported."""
    for model in filter(Path.exists, models):
        if name := ModelDirectory.open(Source(model, model.name)).first_not_finite():
            raise TrainingError(
                f"{model} has NaN or infinity in {name}: its training diverged, and an earlier version exported it all "
                "the same. Delete the folder; the same command trains it again."
            )


@contextmanager
def _alone(expert: Expert, checkpoints: Path, *, first: bool) -> Iterator[None]:
    """Lock an expert: of the jobs of a sweep that share it, one trains it, and the others wait."""
    checkpoints.mkdir(parents=True, exist_ok=True)
    lock, seconds = FileLock(checkpoints / "lock"), 0
    while not distributed.of_first(float(not first or _acquire(lock, seconds))):  # the other ranks wait with the first
        if seconds == 0 and first:
            console.print(f"{expert.name}: another process is training it; waiting")
        seconds = _WAIT
    try:
        yield
    finally:
        lock.release()


def _acquire(lock: FileLock, seconds: int) -> bool:
    """Acquire the lock within a time. Returns whether it succeeded."""
    try:
        lock.acquire(timeout=seconds)
    except Timeout:
        return False
    return True


def _fit(plan: ExpertPlan, training: PlannedTraining, out: Path) -> None:
    cfg, expert, batches = training.cfg, training.expert, training.batches
    models, checkpoints = out / "models", out / "checkpoints" / expert.name
    if distributed.rank() == 0:
        finished.forget_missing(out, plan.models(expert))
    model = build.encoder(cfg, batches.datasets, start=_start(expert, models))
    options = {name: rows.options for name, rows in batches.train_rows.items()}
    num_steps = batches.num_steps(*training.limits)
    extra = _extra(plan, expert, models, num_steps)
    checkpoint, owner = checkpoints / CHECKPOINT, digest([run_identity(cfg).hash, expert.name])
    with open_loggers(cfg, expert.name, "train") as loggers:
        trainer = build.trainer(cfg, loggers, checkpoints, [*extra, Owner(owner)])
        print_plan(training)
        module = build.module(cfg, model, options, expert)
        trainer.fit(module, batches, ckpt_path=resumable(checkpoint, module, owner))
        _refuse_early_end(expert, trainer, num_steps)
        fault_injection.point("before_export")
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, WhileTraining):
                callback.finish(model, trainer.global_step, checkpoints / CHOICE)
        _export(module, extra, models / expert.name)
        if distributed.rank() == 0:
            finished.record(out, plan.models(expert))
            discard(checkpoint)
            _log(loggers, plan, training, out)


def _refuse_early_end(expert: Expert, trainer: Trainer, num_steps: int) -> None:
    """Refuse to export a training that ended before its last step, except by the `patience` of `WhileTraining`."""
    chosen = any(isinstance(each, WhileTraining) and each.has_stopped for each in trainer.callbacks)  # type: ignore[attr-defined]
    if trainer.global_step != num_steps and not chosen:
        raise TrainingError(
            f"{expert.name} ended after {trainer.global_step} of {num_steps} steps, so it is not exported: a callback or "
            f"an option of the trainer stopped it. Remove that, plan fewer steps (trainer.max_steps={trainer.global_step})"
            ", or stop by dev scores (callback=evaluate callback.while_training.patience=3)."
        )


def num_rows(training: PlannedTraining, out: Path) -> float:
    """Rows processed in the training of a finished expert: fewer than planned if it stopped early."""
    batches = training.batches
    return batches.num_rows(*training.limits) * _last_step(training, out) / batches.num_steps(*training.limits)


def _last_step(training: PlannedTraining, out: Path) -> int:
    """The last step of a finished training."""
    if choice := read_choice(out / "checkpoints" / training.expert.name):
        return int(choice["last_step"])
    return training.batches.num_steps(*training.limits)


def _start(expert: Expert, models: Path) -> Path | None:
    """The model that an expert starts from; None: the base."""
    if expert.start == BASE:
        return None
    if expert.start_path is not None:
        return Path(expert.start_path)
    if not (models / expert.start).exists():
        raise ConfigError(
            f"{expert.name} starts from {expert.start}, and {models / expert.start} does not exist: "
            f"train that expert first (experts.only={expert.start}), or all in one command."
        )
    return models / expert.start


def _extra(plan: ExpertPlan, expert: Expert, models: Path, num_steps: int) -> list[Callback]:
    """The callbacks that make the further sources of an expert's training: snapshots and an average."""
    names, count = plan.models(expert), plan.num_snapshots(expert)
    steps = [round(num_steps * plan.part_done(expert, number)) for number in range(1, count)]
    snapshots = Snapshots({step: models / name for step, name in zip(steps, names, strict=False)})
    return [snapshots] + ([ExponentialAverage(plan.ema, models / names[-2])] if plan.ema is not None else [])


def _log(loggers: Sequence[Any], plan: ExpertPlan, training: PlannedTraining, out: Path) -> None:
    """Log the rows and the models of a training."""
    cfg, expert = training.cfg, training.expert
    rows = _plan(training, _last_step(training, out))
    run_log.log_plan(loggers, rows)
    run_log.log_conflict(loggers, Path(cfg.out), expert.name)
    start = lineage.LoggedModel(expert.start, Path(expert.start_path or out / "models" / expert.start))
    facts = {"expert": expert.name, "experts": cfg.experts.name, "trained_on": rows}
    for number, name in enumerate(plan.models(expert), start=1):
        model = lineage.LoggedModel(name, out / "models" / name)
        facts["share_of_training"] = plan.part_done(expert, number)
        lineage.log_expert(loggers, cfg, model, start, facts)


def _plan(training: PlannedTraining, steps: int) -> list[dict[str, Any]]:
    """The rows of the table of a training's datasets, with the share of batches and the rows seen of each."""
    expert, stream = training.expert, training.batches.steps()
    seen = rows_seen(stream, steps)
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
            "rows_seen": seen[name].distinct,
            "rows_trained_on": seen[name].drawn,
        }
        for name, count in stream.num_batches.items()
        for feed in [stream.datasets[name]]
    ]


def _export(module: EmbeddingModule, extra: Sequence[Callback], target: Path) -> None:
    """Save the average, then the expert: once the directory of the expert exists, all of its sources do."""
    for callback in extra:
        if isinstance(callback, ExponentialAverage):
            callback.export(module)
    module.export(target)
