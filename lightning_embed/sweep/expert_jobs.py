"""Experts of a run as jobs of the launcher that Hydra is configured with.

A job is the command of this process with `experts.only=<name>`. Wherever the launcher starts it, it runs in a process of
its own: so that it may have several devices, its end is an exit status, and what it says is in `<out>/jobs/<name>.log`.
"""

import copy
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus, configure_log
from hydra.types import HydraContext
from omegaconf import DictConfig, open_dict, read_write

from lightning_embed.config.choices import typed
from lightning_embed.config.compose import in_quotes
from lightning_embed.runtime import signals
from lightning_embed.sweep.job import command_line

FOLDER = "jobs"
_QUIET = {"version": 1, "root": {"level": "WARNING", "handlers": []}, "disable_existing_loggers": False}
"""Launchers print the whole command line of each job, with the secrets in it."""


def launcher() -> str | None:
    """The word of the launcher; None: this process was not started by a command line."""
    return str(HydraConfig.get().runtime.choices["hydra/launcher"]) if HydraConfig.initialized() else None


def log_file(out: Path, expert: str) -> Path:
    """What the jobs of an expert print, one after the other."""
    return out / FOLDER / f"{expert}.log"


def overrides(expert: str, out: Path) -> list[str]:
    """The overrides of a job; a later one replaces an earlier one of the same option."""
    own = f"experts.only={in_quotes(expert)}", f"out={in_quotes(str(out.absolute()))}"
    return [*(choice.text for choice in typed()), "experts.jobs=here", "push_to_hub=null", *own]


def launch(experts: Sequence[str], out: Path) -> dict[str, int]:
    """Run a job for each expert, and wait for all. Returns their exit statuses, without those that are not known.

    Raises:
        Exception: of the launcher, of any kind; some jobs may have ended all the same.
    """
    config = _config(out)
    context = HydraContext(config_loader=GlobalHydra.instance().config_loader(), callbacks=_no_callbacks())
    jobs = Plugins.instance().instantiate_launcher(context, run, config)
    try:
        ended = jobs.launch([overrides(expert, out) for expert in experts], initial_job_idx=0)
    finally:
        configure_log(config.hydra.job_logging, config.hydra.verbose)  # launchers set that of sweeps
    return {expert: status for expert, job in zip(experts, ended, strict=True) if (status := _status(job)) is not None}


def run(cfg: DictConfig) -> int:
    """Run the job of this process: a launcher calls it, with the job's config. Returns the exit status."""
    signals.install()
    signals.started()
    with log_file(Path(cfg.out), cfg.experts.only).open("ab") as log:
        process = subprocess.Popen(
            command_line("train"), cwd=HydraConfig.get().runtime.cwd,
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
        return signals.wait(process)


def _status(job: JobReturn) -> int | None:
    return int(job.return_value) if job.status == JobStatus.COMPLETED else None


def _config(out: Path) -> Any:
    """The config of this command, for a launcher: its files, such as those of submitit, are in the folder of the run."""
    config: Any = copy.deepcopy(HydraConfig.get()._get_parent())  # type: ignore[attr-defined]
    folder = (out / FOLDER).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    with read_write(config), read_write(config.hydra), open_dict(config.hydra):
        config.hydra.sweep.dir = str(folder)
        config.hydra.overrides.hydra.append(f"hydra.sweep.dir={in_quotes(str(folder))}")
        config.hydra.hydra_logging = _QUIET
    return config


def _no_callbacks() -> Any:
    """Callbacks without any: those of a sweep make its table."""
    from hydra._internal.callbacks import Callbacks

    return Callbacks()
