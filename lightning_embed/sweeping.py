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
from omegaconf import DictConfig, read_write

from lightning_embed import jobs
from lightning_embed.config import run_yaml
from lightning_embed.config.identity import job_hash
from lightning_embed.config.queries import num_ranks
from lightning_embed.config.sweep_context import JOB_VARIABLE, is_search, sweep_folder
from lightning_embed.jobs import Job
from lightning_embed.runtime import distributed


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
    if JOB_VARIABLE in os.environ:
        return step() if distributed.launched_rank() else _recorded(Path(os.environ[JOB_VARIABLE]), step, cfg, explain)
    sweep = sweep_folder()
    assert sweep is not None
    file = sweep.absolute() / jobs.FOLDER / f"{job_hash(command, cfg)}.json"
    if (job := jobs.read(file)) is not None and job.is_done:
        print(f"done already: {' '.join(run_yaml.overrides())} ({cfg.out})", flush=True)
        return job.value
    if command == "train" and num_ranks(cfg) != 1:
        return _in_a_process_of_its_own(command, cfg, file).value
    return _recorded(file, step, cfg, explain)


def _recorded(
    file: Path, step: Callable[[], float | None], cfg: DictConfig, explain: Callable[[Exception], str]
) -> float | None:
    given, began, value, error = run_yaml.overrides(), time.monotonic(), None, None
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
    arguments = [sys.executable, "-m", "lightning_embed", *flags, *run_yaml.overrides()]
    file.unlink(missing_ok=True)
    began = time.monotonic()
    ended = subprocess.run(arguments, env={**os.environ, JOB_VARIABLE: str(file)}, check=False)
    if (job := jobs.read(file)) is None:
        error = f"its process ended with the exit status {ended.returncode}"
        job = Job(run_yaml.overrides(), str(cfg.out), None, round(time.monotonic() - began, 1), error)
        jobs.write(file, job)
    return job


class ResumedSearch(Callback):
    """A study of Optuna that is kept in a file goes on: of its `n_trials` those that went well are not done again.

    Its sampler goes on too: with the seed that it began with, it would draw the points of its beginning again.
    """

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ARG002
        """Count the trials that ended, if the sweeper keeps a study."""
        sweeper = config.hydra.sweeper
        if sweeper.get("storage") is None or not is_search(sweeper):
            return
        import optuna

        summaries = optuna.get_all_study_summaries(sweeper.storage)
        if sweeper.study_name not in [summary.study_name for summary in summaries]:
            return
        trials = optuna.load_study(study_name=sweeper.study_name, storage=sweeper.storage).get_trials(deepcopy=False)
        done = sum(trial.state == optuna.trial.TrialState.COMPLETE for trial in trials)
        with read_write(config):
            sweeper.n_trials = max(0, sweeper.n_trials - done)
            if sweeper.sampler.get("seed") is not None:
                sweeper.sampler.seed += sum(trial.state.is_finished() for trial in trials)
        print(f"the search goes on: {done} trials are done, {sweeper.n_trials} are to be done", flush=True)
