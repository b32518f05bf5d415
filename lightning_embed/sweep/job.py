"""One job of a sweep, under any launcher: run once, and recorded with its result or its error.

A sweep that was killed and is started again has the same folder, and skips the jobs that are recorded there.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from lightning_embed.config.choices import shown, typed
from lightning_embed.config.content import noticed
from lightning_embed.config.identity import job_hash
from lightning_embed.config.queries import is_first, num_ranks
from lightning_embed.config.sweep_context import JOB_VARIABLE, sweep_folder
from lightning_embed.runtime import signals
from lightning_embed.storage.publish import discard
from lightning_embed.sweep import known_jobs, records
from lightning_embed.sweep.records import Job
from lightning_embed.types import Choice


def do(
    command: str, step: Callable[[], float | None], cfg: DictConfig, explain: Callable[[Exception], str]
) -> float | None:
    """Run a job of a sweep, unless it is done already. A failure is printed and recorded, and the sweep continues.

    Args:
        command: train or merge.
        step: runs the job and returns the `optimized_metric`.
        cfg: config of the job.
        explain: one sentence for an error.
    """
    if JOB_VARIABLE in os.environ:
        return _recorded(Path(os.environ[JOB_VARIABLE]), step, cfg, explain) if is_first(cfg) else step()
    sweep = sweep_folder()
    assert sweep is not None
    with noticed() as reads:
        name = job_hash(command, cfg)
    known_jobs.remember(command, cfg, sweep.absolute(), name, reads)
    file = sweep.absolute() / records.FOLDER / f"{name}.json"
    if (job := records.read(file)) is not None and job.is_done:
        print_done(shown(), str(cfg.out))
        return job.value
    if command == "train" and num_ranks(cfg) != 1:
        return _in_a_process_of_its_own(command, cfg, file).value
    return _recorded(file, step, cfg, explain)


def print_done(choices: Iterable[Choice], out: str) -> None:
    """Print that a job is not run again."""
    print(f"done already: {' '.join(choice.text for choice in choices)} ({out})", flush=True)


def _recorded(
    file: Path, step: Callable[[], float | None], cfg: DictConfig, explain: Callable[[Exception], str]
) -> float | None:
    choices, began, value, error = shown(), time.monotonic(), None, None
    try:
        value = step()
    except signals.Stopped as stop:
        records.write(
            file, Job(choices, str(cfg.out), None, round(time.monotonic() - began, 1), f"interrupted: {stop}")
        )
        raise
    except Exception as failure:  # of any kind: the other jobs continue
        error = explain(failure)
        print(f"failed: {' '.join(choice.text for choice in choices)}: {error}", file=sys.stderr, flush=True)
    records.write(file, Job(choices, str(cfg.out), value, round(time.monotonic() - began, 1), error))
    return value


def _in_a_process_of_its_own(command: str, cfg: DictConfig, file: Path) -> Job:
    """Run a job in a process with its own command line, without swept values, so that all ranks have the same config.

    DDP starts its other processes with the command line of the first one; with that of a sweep, each would sweep again.
    """
    discard(file)
    began = time.monotonic()
    status = signals.wait(subprocess.Popen(command_line(command), env={**os.environ, JOB_VARIABLE: str(file)}))
    if (job := records.read(file)) is None:
        error = f"its process ended with the exit status {status}"
        job = Job(shown(), str(cfg.out), None, round(time.monotonic() - began, 1), error)
        records.write(file, job)
    return job


def command_line(command: str) -> list[str]:
    """The command line of the job of this process, as one that was typed: without a launcher and swept values."""
    hydra = HydraConfig.get()
    folders = [source.path for source in hydra.runtime.config_sources if source.provider == "command-line"]
    flags = [f"--config-name={command}", *(f"--config-dir={folder}" for folder in folders)]
    places = [text for text in hydra.overrides.hydra if text.startswith("hydra.searchpath=")]
    return [sys.executable, "-m", "lightning_embed", *flags, *places, *(choice.text for choice in typed())]
