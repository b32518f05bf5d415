"""Report of a sweep, or of compare=: one table, one page, its pictures."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from lightning_embed.errors import ConfigError
from lightning_embed.report.compare.comparison import Compared, compare
from lightning_embed.report.compare.recipes import Recipe, collect, measured_alike
from lightning_embed.report.figures.quality_vs_cost import quality
from lightning_embed.report.figures.scatter import scatter
from lightning_embed.report.figures.style import save
from lightning_embed.report.pages.sweep_page import write_sweep_page
from lightning_embed.report.scores import results_file
from lightning_embed.report.terminal import print_recipes
from lightning_embed.storage.atomic import write_whole
from lightning_embed.types import Choice, Results


def write_comparison(folders: Mapping[Path, set[Choice]], out: Path, console: Console, metric: str) -> None:
    """Print the table of several runs; write its page, its numbers and its pictures, if anything was measured.

    Runs whose last model was measured by a different evaluation than most are left out and named.

    Args:
        folders: of the runs, each with the choices that all its jobs share.
        out: folder to write.
        console: prints the table.
        metric: orders the recipes, best first: dev/mean, or dev/<task>.

    Raises:
        ConfigError: `out` is the folder of a run, whose own report would be replaced.
    """
    if (out / "run.yaml").exists():
        raise ConfigError(
            f"{out} is the folder of a run, with a report of its own. Give the comparison a different folder."
        )
    measured = measured_alike(folders)
    for folder in folders:
        if folder not in measured and (folder / results_file.FILE).exists():
            console.print(
                f"left out, because its evaluation differs from that of the others: {folder}",
                soft_wrap=True,
                markup=False,
            )
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
    console.print(f"report: {page} (pictures and numbers beside it)", soft_wrap=True, markup=False)


def plain(compared: Compared) -> dict[str, Any]:
    """The comparison as JSON: scores of every recipe at every seed, means, and differences from the reference."""
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
                "more": {seed: found for seed, results in recipe.seeds.items() if (found := _more(results))},
            }
            for recipe in compared.recipes
        ],
    }


def _more(results: Results) -> dict[str, dict[str, dict[str, float]]]:
    """Split -> test -> further metric -> points; empty where there are none."""
    found = {
        split: {
            test: {word: round(points, 3) for word, points in score["more"].items()}
            for test, score in tests.items()
            if "more" in score
        }
        for split, tests in results.items()
    }
    return {split: tests for split, tests in found.items() if tests}


def _scatter(recipes: list[Recipe]) -> Any | None:
    """Every recipe by its test scores, if all have one seed; the means over several seeds are in the other picture."""
    if any(len(recipe.seeds) > 1 for recipe in recipes):
        return None
    scores: dict[str, Results] = {recipe.name: next(iter(recipe.seeds.values())) for recipe in recipes}
    return scatter(scores, {recipe.name: recipe.kind for recipe in recipes})
