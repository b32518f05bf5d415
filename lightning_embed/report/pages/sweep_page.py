"""Page of a sweep: the best recipe, its difference from the reference, and the noise of that."""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from lightning_embed.report.compare.comparison import Compared, Mean
from lightning_embed.report.compare.recipes import Recipe
from lightning_embed.report.figures.style import as_svg
from lightning_embed.report.pages.template import PAGE, escaped, table
from lightning_embed.report.scores.bootstrap import Interval
from lightning_embed.report.scores.summary import by, metric_name, show, task_name
from lightning_embed.storage.atomic import write_whole


def write_sweep_page(file: Path, compared: Compared, figures: Sequence[Any]) -> Path:
    """Write the page, which needs no other file."""
    parts = [f'<p class="headline">{headline(compared)}</p>']
    parts += [f"<figure>{as_svg(figure)}</figure>" for figure in figures]
    parts += [_means(compared), *(_tests(compared, title) for title in compared.titles)]
    write_whole(file, PAGE.substitute(title=escaped(file.parent.name), body="\n".join(parts)))
    return file


def headline(compared: Compared) -> str:
    """The recipe that dev chooses, and its difference from the reference (or, if it is that, the best merge's)."""
    chosen = compared.chosen
    if chosen is None:
        return "No dev scores: nothing here chooses a recipe."
    means = compared.means[chosen.name]
    dev = f"{': ' if compared.chosen_by == 'on dev' else '; mean of dev '}{_points(means['dev'])}"
    sentences = [f"<b>{escaped(chosen.name)}</b> is best {escaped(compared.chosen_by)}{dev}."]
    for title in [title for title in means if title != "dev"]:
        found = compared.differences.get(chosen.name, {}).get(title)
        beside = f", {_signed(found)} from {escaped(str(compared.reference))}: {_verdict(found)}" if found else ""
        sentences.append(f"{title.capitalize()} it scores {_points(means[title])}{beside}.")
    merge = compared.best_merge
    if chosen.name == compared.reference and merge is not None:
        apart = [f"{t} {_signed(i)}, {_verdict(i)}" for t, i in compared.differences.get(merge.name, {}).items()]
        if apart:
            sentences.append(f"The best merge, {escaped(merge.name)}, differs from it by: {'; '.join(apart)}.")
    return " ".join(sentences)


def _means(compared: Compared) -> str:
    header = ["recipe", "cost", "seeds", *compared.titles]
    rows = []
    for recipe in compared.recipes:
        cost = compared.cost(recipe)
        cells = [_cell(compared, recipe, title) for title in compared.titles]
        rows.append([escaped(recipe.name), show(cost), str(len(recipe.seeds)), *cells])
    note = "Percent points, mean of tasks, ± standard error over seeds."
    note += f" Cost in {compared.unit}; the rows of a merge's probe count, evaluations do not."
    if compared.reference is not None:
        note += (
            f" Below: the difference from {escaped(compared.reference)} and its 95 % interval, from a paired bootstrap "
            "over queries and pairs and the spread over seeds (one seed: over queries alone); bold where it excludes "
            "zero and no seed is missing."
        )
    return f'<h2>Recipes</h2><p class="note">{note}</p>{table(header, rows)}'


def _cell(compared: Compared, recipe: Recipe, title: str) -> str:
    mean, found = compared.means[recipe.name].get(title), compared.differences.get(recipe.name, {}).get(title)
    if mean is None:
        return "-"
    shown = _points(mean)
    shown = f'<span class="best">{shown}</span>' if compared.is_best(recipe, title) else shown
    if found is None:
        return shown
    apart = f"<b>{_signed(found)}</b>" if compared.stands_out(recipe, title) else _signed(found)
    return f'{shown}<br><span class="note">{apart}</span>'


def _tests(compared: Compared, title: str) -> str:
    """Every test of a block, mean over seeds; further metrics of a test stand to its right."""
    block = compared.blocks[title]
    columns: dict[tuple[str, str], str] = {}  # (test, further metric, if any) -> what stands below the test's name
    for task, names in block.tests.items():
        for test in names:
            columns[test, ""] = escaped(task_name(task))
            columns |= {(test, word): escaped(metric_name(word)) for word in block.more_of(test)}
    header = ["recipe", *(f"{escaped(test)}<br>{below}" for (test, _), below in columns.items())]
    rows = [
        [escaped(recipe.name), *(_test(recipe, block.split, *column) for column in columns)]
        for recipe in compared.recipes
    ]
    return f"<h2>{title.capitalize()}, every set</h2>{table(header, rows)}"


def _test(recipe: Recipe, split: str, test: str, word: str) -> str:
    found = [(by(scores, word) if word else scores).get(split, {}).get(test) for scores in recipe.seeds.values()]
    known = [score["score"] for score in found if score is not None]
    return show(fmean(known)) if len(known) == len(found) else "-"


def _points(mean: Mean) -> str:
    return show(mean.points) if mean.error is None else f"{show(mean.points)} ± {mean.error:.2f}"


def _signed(found: Interval) -> str:
    return f"{found.difference:+.2f} [{found.low:+.2f}, {found.high:+.2f}]"


def _verdict(found: Interval) -> str:
    of = "the noise" if found.num_seeds > 1 else "the noise of the queries (one seed)"
    return f"{'outside' if found.outside_noise else 'inside'} {of}"
