"""`experts.jobs=launcher`: the experts that are not trained yet are jobs of Hydra's launcher, started by one command.

They are trained before the run itself begins, which then finds them, checks them, and merges.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from omegaconf import DictConfig

from lightning_embed.errors import ConfigError, TrainingError
from lightning_embed.experts import Expert
from lightning_embed.run import ranks
from lightning_embed.run.execute import begin, with_mined_negatives
from lightning_embed.run.plan import print_experts
from lightning_embed.run.prepare import Prepared
from lightning_embed.run.terminal import console
from lightning_embed.storage.names import visible_lines
from lightning_embed.sweep import expert_jobs

_OF_USER = 2  # exit status of an error that the user can fix: it would return
_END_OF_LOG = 4096  # bytes


def check_start(cfg: DictConfig) -> None:
    """Refuse a start in which nobody, or more than one process, would start the jobs.

    Raises:
        ConfigError: no command line; or torchrun, srun or several machines.
    """
    if expert_jobs.launcher() is None:
        raise ConfigError("experts.jobs=launcher needs a command line: python train.py ... hydra/launcher=...")
    place = ranks.of_training(cfg)
    if place is not None and len(place.started) > 1:
        raise ConfigError(
            f"experts.jobs=launcher: {len(place.started)} processes would start the jobs. Start one, without torchrun, "
            "srun or trainer.num_nodes; each job has trainer.devices on its machine."
        )


def train_experts(prepared: Prepared) -> None:
    """Train the experts that do not exist yet, each in a job; those that start from others come after them.

    Raises:
        TrainingError: jobs failed, again after `experts.retries`.
    """
    begin(prepared)
    left = _left(prepared)
    if left:
        print_experts(prepared.cfg, prepared.trainings, prepared.train_sets)
        with_mined_negatives(prepared)  # the jobs read them
    for wave in waves(left):
        _train([expert.name for expert in wave], prepared.out, prepared.plan.retries)


def print_jobs(prepared: Prepared) -> None:
    """Print the jobs that a run would start."""
    for number, wave in enumerate(waves(_left(prepared)), start=1):
        after = "" if number == 1 else f", after those of wave {number - 1}"
        names = ", ".join(expert.name for expert in wave)
        _say(f"jobs of hydra/launcher={expert_jobs.launcher()}, wave {number}{after}: {names}")
    if not _left(prepared):
        _say("no jobs: all experts are trained")


def waves(experts: Sequence[Expert]) -> Iterator[list[Expert]]:
    """Experts that can be trained at the same time: those that start from none of `experts`, then those after them."""
    waiting = {expert.name: expert for expert in experts}
    while waiting:
        ready = [expert for expert in waiting.values() if expert.start not in waiting]
        yield ready
        for expert in ready:
            del waiting[expert.name]


def _left(prepared: Prepared) -> list[Expert]:
    planned = [training.expert for training in prepared.trainings]
    return [expert for expert in planned if not _model(prepared.out, expert.name).exists()]


def _model(out: Path, expert: str) -> Path:
    return out / "models" / expert


def _train(names: Sequence[str], out: Path, retries: int) -> None:
    """Train experts at the same time; jobs that fail are started again, but not those with an error of the user."""
    started, reason = list(names), ""
    for attempt in range(1 + retries):
        again = " again" if attempt else ""
        _say(f"hydra/launcher={expert_jobs.launcher()}: starting{again} {', '.join(started)}; logs: {out / 'jobs'}")
        statuses: dict[str, int] = {}
        try:
            statuses = expert_jobs.launch(started, out)
        except Exception as error:  # of any kind: launchers have errors of their own for a job that was killed
            reason = f" The launcher: {type(error).__name__}: {_first_line(str(error))}."
        failed = [name for name in started if not _model(out, name).exists()]
        for name in failed:
            _say(f"{name}: {_end(statuses.get(name))}: {_last_line(expert_jobs.log_file(out, name))}")
        started = [name for name in failed if statuses.get(name) != _OF_USER]
        if not started:
            break
    if failed := [name for name in names if not _model(out, name).exists()]:
        logs = ", ".join(str(expert_jobs.log_file(out, name)) for name in failed)
        raise TrainingError(
            f"{len(failed)} of {len(names)} experts failed: {', '.join(failed)}. Read {logs}; the same command "
            f"trains them.{reason}"
        )


def _end(status: int | None) -> str:
    if status is None:
        return "its job ended without a status"
    return f"its job was ended by signal {-status}" if status < 0 else f"its job ended with the exit status {status}"


def _say(text: str) -> None:
    console.print(text, markup=False, highlight=False)


def _first_line(text: str) -> str:
    return visible_lines(next(iter(text.strip().splitlines()), "no message")).rstrip(".")


def _last_line(log: Path) -> str:
    """The last line that a job printed."""
    text = log.read_bytes()[-_END_OF_LOG:].decode(errors="replace") if log.exists() else ""
    lines = [line for line in text.splitlines() if line.strip()]
    return visible_lines(lines[-1].strip()) if lines else "its job printed nothing"
