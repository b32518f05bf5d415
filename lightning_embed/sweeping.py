"""One job of a sweep, under any launcher: done once, and whether it went well is written down.

A sweep that was killed and is started again has the same folder, finds what is done there, and does the rest.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, read_write

from lightning_embed import config, dist, jobs
from lightning_embed.check import num_ranks
from lightning_embed.jobs import Job

_RECORD = config.JOB_VARIABLE


def is_job() -> bool:
    """Whether this process does a job of a sweep."""
    return _RECORD in os.environ or HydraConfig.get().mode == RunMode.MULTIRUN


def do(
    command: str, step: Callable[[], float | None], cfg: DictConfig, explain: Callable[[Exception], str]
) -> float | None:
    """Do a job of a sweep, if it is not done already. A failure is told and written down, and the sweep goes on.

    Args:
        command: train or merge.
        step: what there is to do; returns the `optimized_metric`.
        cfg: of the job.
        explain: one sentence for what went wrong.
    """
    if _RECORD in os.environ:
        return step() if dist.launched_rank() else _recorded(Path(os.environ[_RECORD]), step, cfg, explain)
    sweep, given = config.sweep_folder(), list(HydraConfig.get().overrides.task)
    assert sweep is not None
    file = sweep.absolute() / jobs.FOLDER / f"{job_hash(command, cfg)}.json"
    if (job := jobs.read(file)) is None or not job.is_done:
        if command == "train" and num_ranks(cfg) != 1:
            job = _in_a_process_of_its_own(command, cfg, file)
        else:
            return _recorded(file, step, cfg, explain)
    else:
        print(f"done already: {' '.join(given)} ({cfg.out})", flush=True)
    return job.value


def job_hash(command: str, cfg: DictConfig) -> str:
    """Eight letters that stand for the resolved config of a job, and for the version that did it."""
    from lightning_embed import __version__

    resolved = config.plain(cfg, as_words=True)
    return config.digest([command, __version__, {k: v for k, v in resolved.items() if k not in ("part", "group")}])


def _recorded(
    file: Path, step: Callable[[], float | None], cfg: DictConfig, explain: Callable[[Exception], str]
) -> float | None:
    given, began, value, error = list(HydraConfig.get().overrides.task), time.monotonic(), None, None
    try:
        value = step()
    except Exception as failure:  # whatever it is, the other jobs go on
        error = explain(failure)
        print(f"failed: {' '.join(given)}: {error}", file=sys.stderr, flush=True)
    jobs.write(file, Job(given, str(cfg.out), value, round(time.monotonic() - began, 1), error))
    return value


def _in_a_process_of_its_own(command: str, cfg: DictConfig, file: Path) -> Job:
    """DDP starts its other processes with the command line of the first: under a sweep's, each would sweep again.

    So the job gets a command line of its own, in which nothing is left to be chosen: all ranks have the same config.
    """
    hydra = HydraConfig.get()
    folders = [source.path for source in hydra.runtime.config_sources if source.provider == "command-line"]
    flags = [f"--config-name={command}", *(f"--config-dir={folder}" for folder in folders)]
    arguments = [sys.executable, "-m", "lightning_embed", *flags, *hydra.overrides.task]
    file.unlink(missing_ok=True)
    began = time.monotonic()
    ended = subprocess.run(arguments, env={**os.environ, _RECORD: str(file)}, check=False)
    if (job := jobs.read(file)) is None:
        error = f"its process ended with the exit status {ended.returncode}"
        job = Job(list(hydra.overrides.task), str(cfg.out), None, round(time.monotonic() - began, 1), error)
        jobs.write(file, job)
    return job


class ResumedSearch(Callback):
    """A study of Optuna that is kept in a file goes on: of its `n_trials` those that ended are not done again.

    Its sampler goes on too: with the seed that it began with, it would draw the points of its beginning again.
    """

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ARG002
        """Count the trials that ended, if the sweeper keeps a study."""
        sweeper = config.hydra.sweeper
        if sweeper.get("storage") is None or not str(sweeper._target_).startswith("hydra_plugins.hydra_optuna_sweeper"):
            return
        import optuna

        summaries = optuna.get_all_study_summaries(sweeper.storage)
        if sweeper.study_name not in [summary.study_name for summary in summaries]:
            return
        trials = optuna.load_study(study_name=sweeper.study_name, storage=sweeper.storage).get_trials(deepcopy=False)
        ended = sum(trial.state.is_finished() for trial in trials)
        with read_write(config):
            sweeper.n_trials = max(0, sweeper.n_trials - ended)
            if sweeper.sampler.get("seed") is not None:
                sweeper.sampler.seed += ended
        print(f"the search goes on: {ended} trials are done, {sweeper.n_trials} are to be done", flush=True)
