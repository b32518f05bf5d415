"""What stands at the end of a sweep: one table, one page, its pictures."""

import atexit
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from rich.console import Console

from lightning_embed.report.comparison import Compared, compare
from lightning_embed.report.figure import save
from lightning_embed.report.quality import quality
from lightning_embed.report.recipes import Recipe, collect
from lightning_embed.report.scatter import scatter
from lightning_embed.report.sweep_page import write_sweep_page
from lightning_embed.report.table import recipes_table
from lightning_embed.types import Results


class SweepTable(Callback):
    """Prints all models of all jobs of a sweep, best on dev first; jobs that differ in their seed alone are one row.

    It sees the jobs that ran in this process: those of Hydra's basic launcher and of its sweepers. In the folder of the
    jobs, or in the one around their folders, it leaves sweep-<hash of the command>.html, .json (what the page shows), and
    pictures, each as .svg and .png: quality against cost; and, of one seed, in domain against out of domain.
    """

    def __init__(self) -> None:
        self.folders: dict[Path, set[str]] = {}
        atexit.register(self._write)  # Hydra does not tell its callbacks of the end of a sweep in which a job failed

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:  # noqa: ARG002
        """Remember the folder of a job that finished, and the overrides that all its jobs share."""
        if job_return.status is JobStatus.COMPLETED:
            folder, given = Path(config.out), set(job_return.overrides or ())
            self.folders[folder] = self.folders.get(folder, given) & given

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ARG002
        """Compare what was measured, print it and write it down."""
        self._write()

    def _write(self) -> None:
        folders, self.folders = self.folders, {}
        if folders and "LIGHTNING_EMBED_SWEEP" in os.environ:  # a single job is no sweep
            place = Path(os.path.commonpath([folder.absolute() for folder in folders]))
            write_sweep(folders, place / os.environ["LIGHTNING_EMBED_SWEEP"], Console())


def write_sweep(folders: Mapping[Path, set[str]], file: Path, console: Console) -> None:
    """Print the table of a sweep; write its page, its numbers and its pictures, if anything was measured.

    Args:
        folders: of the jobs, each with the overrides that all its jobs share.
        file: without a suffix.
        console: where the table is shown.
    """
    if not (recipes := collect(folders)):
        return
    compared = compare(recipes)
    console.print(recipes_table(compared))
    pictures = {"": _scatter(recipes), "-cost": quality(compared)}
    figures = {suffix: figure for suffix, figure in pictures.items() if figure is not None}
    for suffix, figure in figures.items():
        save(figure, file.with_name(f"{file.name}{suffix}"))
    file.with_name(f"{file.name}.json").write_text(json.dumps(plain(compared), indent=1) + "\n")
    page = write_sweep_page(file.with_name(f"{file.name}.html"), compared, list(figures.values()))
    console.print(f"report of the sweep: {page} (pictures and numbers beside it)", soft_wrap=True)


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
