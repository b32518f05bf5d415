"""The sweep to which the job of this process belongs."""

import os
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

JOB_VARIABLE = "LIGHTNING_EMBED_JOB"
"""Environment variable with the path of the record of the job that this process was started for."""


def sweep_folder() -> Path | None:
    """The folder of the sweep to which this job belongs; None outside a sweep."""
    if JOB_VARIABLE in os.environ:
        return Path(os.environ[JOB_VARIABLE]).parents[1]
    is_sweep = HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN
    return Path(HydraConfig.get().sweep.dir) if is_sweep else None


def is_job() -> bool:
    """Whether this process runs a job of a sweep."""
    return JOB_VARIABLE in os.environ or HydraConfig.get().mode == RunMode.MULTIRUN


def is_search(sweeper: DictConfig) -> bool:
    """Whether a sweeper of Hydra searches for the highest value, as Optuna's does."""
    return str(sweeper._target_).startswith("hydra_plugins.hydra_optuna_sweeper")
