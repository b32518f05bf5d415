"""One table and one picture at the end of a sweep."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from rich.console import Console

from lightning_embed.report import results
from lightning_embed.report.kinds import Kind, kind_of, labels, read_records
from lightning_embed.report.scatter import save, scatter
from lightning_embed.report.table import sweep_table
from lightning_embed.types import Results


class SweepTable(Callback):
    """Prints all models of all jobs of a sweep, best on dev first, and draws them in domain against out of domain.

    It sees the jobs that ran in this process: those of Hydra's basic launcher and of its sweepers. The picture lies in
    the folder of the jobs, or in the one around their folders, as sweep-<hash of the command>.svg and .png.
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
        rows: dict[str, Row] = {}
        for folder, given in self.folders.items():
            own, records = ",".join(sorted(given - common)) or folder.name, read_records(folder)
            chosen = labels(records)
            for model, results_of in found[folder].items():
                alike = all(others.get(model) == results_of for others in found.values())  # the base, say
                before, label = "" if alike else f"{own}/", chosen.get(model, model)
                options = chosen.get(model, "").partition(" ")[2]
                name = f"{before}{model}" + (f" {options}" if options else "")
                rows[name] = Row(results_of, kind_of(model, records), f"{before}{label}")
        if rows:
            console = Console()
            console.print(sweep_table({name: row.results for name, row in rows.items()}))
            self._draw(rows, console)

    def _draw(self, rows: Mapping[str, "Row"], console: Console) -> None:
        figure = scatter(
            {name: row.results for name, row in rows.items()},
            {name: row.kind for name, row in rows.items()},
            {name: row.label for name, row in rows.items()},
        )
        if figure is not None:
            place = Path(os.path.commonpath([folder.absolute() for folder in self.folders]))
            _, png = save(figure, place / os.environ.get("LIGHTNING_EMBED_SWEEP", "sweep"))
            console.print(f"in domain against out of domain: {png} (and .svg)", soft_wrap=True)


@dataclass(frozen=True)
class Row:
    """A model of a sweep: its scores, what it is, and what is written beside its point."""

    results: Results
    kind: Kind
    label: str


def _last_measured(folder: Path) -> dict[str, Results]:
    """The models that were measured as the last one was."""
    content = results.read(folder)
    last = next(reversed(content["models"]), None)
    how = None if last is None else content["evaluations"][last]
    return {name: found for name, found in content["models"].items() if content["evaluations"][name] == how}
