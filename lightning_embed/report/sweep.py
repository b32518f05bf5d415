"""What stands at the end of a sweep, or of compare=: one table, one page, its pictures."""

import atexit
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from rich.console import Console

from lightning_embed import jobs
from lightning_embed.errors import ConfigError
from lightning_embed.jobs import Job
from lightning_embed.report import results
from lightning_embed.report.comparison import Compared, compare
from lightning_embed.report.figure import save
from lightning_embed.report.quality import quality
from lightning_embed.report.recipes import Recipe, collect, measured_alike
from lightning_embed.report.scatter import scatter
from lightning_embed.report.sweep_page import write_sweep_page
from lightning_embed.report.table import print_recipes
from lightning_embed.storage.atomic import write_whole
from lightning_embed.types import Results


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
        jobs.forget_failures(self._folder)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ARG002
        """Compare what was measured, print it and write it down."""
        if self._write():
            sys.exit(1)

    def _write(self) -> bool:
        """Whether a job failed, or there is no table of those that did not."""
        folder, self._folder = self._folder, None
        found = [] if folder is None else jobs.read_all(folder)
        done: dict[Path, set[str]] = {}
        for job in found:
            if job.is_done:
                done[Path(job.out)] = done.get(Path(job.out), set(job.overrides)) & set(job.overrides)
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
    common = set.intersection(*(set(job.overrides) for job in found)) if len(found) > 1 else set()
    if failed:
        print(
            f"{len(failed)} of {len(found)} jobs failed; the same command again does what is missing:", file=sys.stderr
        )
    for job in failed:
        own = " ".join(override for override in job.overrides if override not in common)
        print(f"  {own}: {job.error}", file=sys.stderr)
    return bool(failed)


def write_comparison(folders: Mapping[Path, set[str]], out: Path, console: Console, metric: str) -> None:
    """Print the table of several runs; write its page, its numbers and its pictures, if anything was measured.

    Those whose last model was measured by another evaluation than most are left out, and named.

    Args:
        folders: of the runs, each with the overrides that all its jobs share.
        out: where to write.
        console: where the table is shown.
        metric: what comes first is best by it: dev/mean, or dev/<task>.

    Raises:
        ConfigError: `out` is the folder of a run, whose own report it would replace.
    """
    if (out / "run.yaml").exists():
        raise ConfigError(
            f"{out} is the folder of a run, with a report of its own: give what compares runs another folder."
        )
    measured = measured_alike(folders)
    for folder in folders:
        if folder not in measured and (folder / results.FILE).exists():
            console.print(f"left out, because it was not measured as the others were: {folder}", soft_wrap=True)
    if not (recipes := collect(folders)):
        return
    compared = compare(recipes, metric)
    print_recipes(compared, console)
    out.mkdir(parents=True, exist_ok=True)
    pictures = {"domains": _scatter(recipes), "cost": quality(compared)}
    figures = {name: figure for name, figure in pictures.items() if figure is not None}
    for name, figure in figures.items():
        save(figure, out / name)
    write_whole(out / "results.json", json.dumps(plain(compared), indent=1) + "\n")
    page = write_sweep_page(out / "report.html", compared, list(figures.values()))
    console.print(f"report: {page} (pictures and numbers beside it)", soft_wrap=True)


def plain(compared: Compared) -> dict[str, Any]:
    """What a sweep found, as JSON: scores of every recipe at every seed, means, and differences from the reference."""
    return {
        "reference": compared.reference,
        "joint_rows": compared.joint_rows,
        "recipes": [
            {
                "name": recipe.name,
                "kind": str(recipe.kind),
                "rows": recipe.rows,
                "means": {title: asdict(mean) for title, mean in compared.means[recipe.name].items()},
                "differences": {
                    title: asdict(found) for title, found in compared.differences.get(recipe.name, {}).items()
                },
                "seeds": {
                    seed: {
                        split: {t: round(s["score"], 3) for t, s in tests.items()} for split, tests in results.items()
                    }
                    for seed, results in recipe.seeds.items()
                },
            }
            for recipe in compared.recipes
        ],
    }


def _scatter(recipes: list[Recipe]) -> Any | None:
    """Every recipe at its first seed's tests, where there is one seed; with several, means stand in the other picture."""
    if any(len(recipe.seeds) > 1 for recipe in recipes):
        return None
    scores: dict[str, Results] = {recipe.name: next(iter(recipe.seeds.values())) for recipe in recipes}
    return scatter(scores, {recipe.name: recipe.kind for recipe in recipes})
