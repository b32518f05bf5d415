"""The table at the end of a sweep."""

import atexit
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from rich.console import Console

from lightning_embed.report.comparison_report import write_comparison
from lightning_embed.sweep import records
from lightning_embed.sweep.records import Job
from lightning_embed.types import Choice


class SweepTable(Callback):
    """Prints all models of all jobs of a sweep, best first; jobs that differ in their seed alone are one row.

    It reads what the jobs left in the folder of the sweep, so that it sees those of every launcher, and of every start of a
    sweep that was killed. There it leaves report.html, results.json (what the page shows), and pictures, each as .svg and
    .png: quality against cost; and, of one seed, in domain against out of domain. If a job failed, the exit status is 1.
    """

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._metric = ""
        atexit.register(self._write)  # Hydra does not tell its callbacks of the end of a sweep that was stopped

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ARG002
        """Make the folder: a study of Optuna is kept in it."""
        self._folder = Path(config.hydra.sweep.dir).absolute()
        self._metric = config.optimized_metric
        self._folder.mkdir(parents=True, exist_ok=True)
        records.forget_failures(self._folder)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ARG002
        """Compare what was measured, print it and write it down."""
        if self._write():
            sys.exit(1)

    def _write(self) -> bool:
        """Whether a job failed, or there is no table of those that did not."""
        folder, self._folder = self._folder, None
        found = [] if folder is None else records.read_all(folder)
        done: dict[Path, set[Choice]] = {}
        for job in found:
            if job.is_done:
                done[Path(job.out)] = done.get(Path(job.out), set(job.choices)) & set(job.choices)
        failed = False
        if folder is not None:
            try:
                write_comparison(done, folder, Console(), self._metric)
            except Exception as error:  # Hydra would make a warning of it, and an exit status of 0
                failed = True
                print(f"The table of the sweep cannot be written: {type(error).__name__}: {error}", file=sys.stderr)
        return _tell_failures(found) or failed


def _tell_failures(found: Sequence[Job]) -> bool:
    """Whether a job failed; all that did are told, by what sets them apart."""
    failed = [job for job in found if job.error is not None]
    common = set.intersection(*(set(job.choices) for job in found)) if len(found) > 1 else set()
    if failed:
        print(
            f"{len(failed)} of {len(found)} jobs failed; the same command again does what is missing:", file=sys.stderr
        )
    for job in failed:
        own = " ".join(choice.text for choice in job.choices if choice not in common)
        print(f"  {own}: {job.error}", file=sys.stderr)
    return bool(failed)
