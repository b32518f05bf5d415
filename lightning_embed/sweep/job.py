"""One job of a sweep, under any launcher: done once, and whether it went well is written down.

A sweep that was killed and is started again has the same folder, finds what is done there, and does the rest.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from lightning_embed.config.choices import typed
from lightning_embed.config.identity import job_hash
from lightning_embed.config.queries import num_ranks
from lightning_embed.config.sweep_context import JOB_VARIABLE, sweep_folder
from lightning_embed.runtime import distributed
from lightning_embed.sweep import records
from lightning_embed.sweep.records import Job


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
    file = sweep.absolute() / records.FOLDER / f"{job_hash(command, cfg)}.json"
    if (job := records.read(file)) is not None and job.is_done:
        print(f"done already: {' '.join(choice.text for choice in typed())} ({cfg.out})", flush=True)
        return job.value
    if command == "train" and num_ranks(cfg) != 1:
        return _in_a_process_of_its_own(command, cfg, file).value
    return _recorded(file, step, cfg, explain)


def _recorded(
    file: Path, step: Callable[[], float | None], cfg: DictConfig, explain: Callable[[Exception], str]
) -> float | None:
    given, began, value, error = typed(), time.monotonic(), None, None
    try:
        value = step()
    except Exception as failure:  # whatever it is, the other jobs go on
        error = explain(failure)
        print(f"failed: {' '.join(choice.text for choice in given)}: {error}", file=sys.stderr, flush=True)
    records.write(file, Job(given, str(cfg.out), value, round(time.monotonic() - began, 1), error))
    return value


def _in_a_process_of_its_own(command: str, cfg: DictConfig, file: Path) -> Job:
    """DDP starts its other processes with the command line of the first: under a sweep's, each would sweep again.

    So the job gets a command line of its own, in which nothing is left to be chosen: all ranks have the same config.
    """
    hydra = HydraConfig.get()
    folders = [source.path for source in hydra.runtime.config_sources if source.provider == "command-line"]
    flags = [f"--config-name={command}", *(f"--config-dir={folder}" for folder in folders)]
    arguments = [sys.executable, "-m", "lightning_embed", *flags, *(choice.text for choice in typed())]
    file.unlink(missing_ok=True)
    began = time.monotonic()
    ended = subprocess.run(arguments, env={**os.environ, JOB_VARIABLE: str(file)}, check=False)
    if (job := records.read(file)) is None:
        error = f"its process ended with the exit status {ended.returncode}"
        job = Job(typed(), str(cfg.out), None, round(time.monotonic() - began, 1), error)
        records.write(file, job)
    return job
