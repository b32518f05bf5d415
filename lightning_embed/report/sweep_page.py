"""The page of a sweep: who won, by how much, and whether that is outside the noise."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from lightning_embed.report.bootstrap import Interval
from lightning_embed.report.page import PAGE, table
from lightning_embed.report.recipes import Compared, Mean
from lightning_embed.report.scatter import as_svg
from lightning_embed.report.summary import block, show, task_name


def write_sweep_page(file: Path, compared: Compared, figures: Sequence[Any]) -> Path:
    """Write the page; it needs nothing beside it."""
    parts = [f'<p class="headline">{headline(compared)}</p>']
    parts += [f"<figure>{as_svg(figure)}</figure>" for figure in reversed(figures)]
    parts += [_means(compared), _tests(compared)]
    file.write_text(PAGE.substitute(title=escape(file.stem), body="\n".join(parts)), encoding="utf-8")
    return file


def headline(compared: Compared) -> str:
    """What dev chooses, and how far that is from the reference on test."""
    chosen = compared.chosen
    if chosen is None:
        return "No dev scores: nothing here chooses a recipe."
    means = compared.means[chosen.name]
    said = [f"<b>{escape(chosen.name)}</b> is best on dev: {_points(means['dev'])}."]
    for title in [title for title in means if title != "dev"]:
        found = compared.differences.get(chosen.name, {}).get(title)
        verdict = "outside" if found and found.outside_noise else "inside"
        beside = f", {_signed(found)} from {escape(str(compared.reference))}: {verdict} the noise" if found else ""
        said.append(f"{title.capitalize()} it scores {_points(means[title])}{beside}.")
    return " ".join(said)


def _means(compared: Compared) -> str:
    titles = compared.titles
    header = ["recipe", "cost", *titles]
    tops = {t: max(show(m[t].points) for r in compared.recipes if t in (m := compared.means[r.name])) for t in titles}
    rows = []
    for recipe in compared.recipes:
        means, found = compared.means[recipe.name], compared.differences.get(recipe.name, {})
        cost = "-" if recipe.cost is None else f"{recipe.cost:.2f}"
        scores = [_cell(means.get(title), tops[title]) + _interval(found.get(title)) for title in titles]
        rows.append([escape(recipe.name), cost, *scores])
    seeds = max(len(recipe.seeds) for recipe in compared.recipes)
    error = f"mean of {seeds} seeds ± its standard error" if seeds > 1 else "one seed"
    reference = (
        ""
        if compared.reference is None
        else (
            f" From {escape(compared.reference)}: difference and 95 % interval of a paired bootstrap over queries, pairs and seeds; "
            "bold where it excludes zero."
        )
    )
    note = f'<p class="note">Percent points, mean of tasks, {error}. Cost in joint trainings; what a merge looks at is counted, measuring is not.{reference}</p>'
    return f"<h2>Recipes</h2>{note}{table(header, rows)}"


def _tests(compared: Compared) -> str:
    """Every test, mean over seeds."""
    parts = []
    for title, key in {
        "dev": ("dev", None),
        "test in domain": ("test", True),
        "test out of domain": ("test", False),
    }.items():
        found = {recipe.name: [block({"": scores}, *key) for scores in recipe.seeds] for recipe in compared.recipes}
        first = next((blocks[0] for blocks in found.values() if blocks[0] is not None), None)
        if first is None:
            continue
        tests = [(task, test) for task, names in first.tests.items() for test in names]
        header = ["recipe", *(f"{escape(test)}<br>{task_name(task)}" for task, test in tests)]
        rows = [[escape(name), *(_test(blocks, test) for _, test in tests)] for name, blocks in found.items()]
        parts.append(f"<h2>{title.capitalize()}, every set</h2>{table(header, rows)}")
    return "".join(parts)


def _test(blocks: Sequence[Any], test: str) -> str:
    scores = [found.scores.get(test, {}).get("") if found is not None else None for found in blocks]
    known = [score for score in scores if score is not None]
    return show(sum(known) / len(known)) if known and len(known) == len(scores) else "-"


def _points(mean: Mean) -> str:
    return show(mean.points) if mean.error is None else f"{show(mean.points)} ± {mean.error:.2f}"


def _cell(mean: Mean | None, top: str) -> str:
    if mean is None:
        return "-"
    return f'<span class="best">{_points(mean)}</span>' if show(mean.points) == top else _points(mean)


def _signed(interval: Interval) -> str:
    return f"{interval.difference:+.2f} [{interval.low:+.2f}, {interval.high:+.2f}]"


def _interval(interval: Interval | None) -> str:
    if interval is None:
        return ""
    shown = f"<b>{_signed(interval)}</b>" if interval.outside_noise else _signed(interval)
    return f'<br><span class="note">{shown}</span>'
