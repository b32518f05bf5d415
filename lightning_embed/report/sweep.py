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
        self.folders: dict[Path, set[str]] = {}

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:  # noqa: ARG002
        """Remember the folder of a job that finished, and the overrides that all its jobs share."""
        if job_return.status is JobStatus.COMPLETED:
            folder, given = Path(config.out), set(job_return.overrides or ())
            self.folders[folder] = self.folders.get(folder, given) & given

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ARG002
        """Print the table; where there are several folders, a model is named with what sets its own apart."""
        common = set.intersection(*self.folders.values()) if self.folders else set()
        found = {folder: _last_measured(folder) for folder in self.folders}
        models: dict[str, Results] = {}
        for folder, given in self.folders.items():
            own = ",".join(sorted(given - common)) or folder.name
            for model, results_of in found[folder].items():
                alike = all(others.get(model) == results_of for others in found.values())  # the base, say
                models[model if alike else f"{own}/{model}"] = results_of
        if models:
            Console().print(sweep_table(models))


def _last_measured(folder: Path) -> dict[str, Results]:
    """The models that were measured as the last one was."""
    content = results.read(folder)
    last = next(reversed(content["models"]), None)
    how = None if last is None else content["evaluations"][last]
    return {name: found for name, found in content["models"].items() if content["evaluations"][name] == how}
