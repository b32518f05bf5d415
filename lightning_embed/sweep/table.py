"""The table at the end of a sweep."""

import atexit
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from lightning_embed.report.comparison_report import write_comparison
from lightning_embed.report.console import PlainConsole
from lightning_embed.sweep import records
from lightning_embed.sweep.records import Job
from lightning_embed.types import Choice


class SweepTable(Callback):
    """Prints all models of all jobs of a sweep, best first; jobs that differ only in their seed are one row.

    It reads the records in the folder of the sweep, so that it includes the jobs of every launcher, and of earlier
    starts of a sweep that was killed. It writes report.html, results.json (the data of the page) and figures, each as
    .svg and .png: quality against cost, and for a single seed in domain against out of domain. If a job failed, the
    exit status is 1.
    """

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._hidden = False  # the secrets of this sweep
        self._metric = ""
        atexit.register(self._write)  # Hydra does not call its callbacks at the end of a sweep that was stopped

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ARG002
        """Create the folder, which also holds the study of Optuna."""
        self._folder = Path(config.hydra.sweep.dir).absolute()
        self._metric = config.optimized_metric
        self._folder.mkdir(parents=True, exist_ok=True)
        records.forget_failures(self._folder)

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ARG002
        """Remove secrets of the command line from the file that Hydra writes at the start of a sweep."""
        if not self._hidden:
            records.hide_secrets(Path(config.hydra.sweep.dir) / "multirun.yaml")
            self._hidden = True

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Compare the jobs, print the table and write the report."""
        self.on_job_start(config, **kwargs)  # in a sweep whose jobs were all done before
        if self._write():
            sys.exit(1)

    def _write(self) -> bool:
        """Write the table. Returns whether a job failed, or the table could not be written."""
        folder, self._folder = self._folder, None
        jobs = [] if folder is None else records.read_all(folder)
        done: dict[Path, set[Choice]] = {}
        for job in jobs:
            if job.is_done:
                done[Path(job.out)] = done.get(Path(job.out), set(job.choices)) & set(job.choices)
        failed = False
        if folder is not None:
            try:
                write_comparison(done, folder, PlainConsole(), self._metric)
            except Exception as error:  # Hydra would turn it into a warning and exit with status 0
                failed = True
                print(f"The table of the sweep cannot be written: {type(error).__name__}: {error}", file=sys.stderr)
        return _print_failures(jobs) or failed


def _print_failures(jobs: Sequence[Job]) -> bool:
    """Print the failed jobs, by the choices in which they differ. Returns whether a job failed."""
    failed = [job for job in jobs if job.error is not None]
    common = set.intersection(*(set(job.choices) for job in jobs)) if len(jobs) > 1 else set()
    if failed:
        print(f"{len(failed)} of {len(jobs)} jobs failed; the same command runs them again:", file=sys.stderr)
    for job in failed:
        own = " ".join(choice.text for choice in job.choices if choice not in common)
        print(f"  {own}: {job.error}", file=sys.stderr)
    return bool(failed)
