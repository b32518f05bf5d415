"""One table at the end of a sweep."""

from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from rich.console import Console

from lightning_embed.report import results
from lightning_embed.report.table import sweep_table
from lightning_embed.types import Results


class SweepTable(Callback):
    """Prints all models of all jobs of a sweep, best on dev first.

    It sees the jobs that ran in this process: those of Hydra's basic launcher and of its sweepers.
    """

    def __init__(self) -> None:
        self.folders: dict[Path, None] = {}

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:  # noqa: ARG002
        """Remember the folder of a job that finished."""
        if job_return.status is JobStatus.COMPLETED:
            self.folders[Path(config.out)] = None

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ARG002
        """Print the table; a model is named with its folder where there are several."""
        models: dict[str, Results] = {}
        for folder in self.folders:
            prefix = f"{folder.name}/" if len(self.folders) > 1 else ""
            models |= {prefix + model: found for model, found in _last_measured(folder).items()}
        if models:
            Console().print(sweep_table(models))


def _last_measured(folder: Path) -> dict[str, Results]:
    """The models that were measured as the last one was."""
    content = results.read(folder)
    last = next(reversed(content["models"]), None)
    how = None if last is None else content["evaluations"][last]
    return {name: found for name, found in content["models"].items() if content["evaluations"][name] == how}
