"""Tables of results on a terminal. Best scores are bold and marked by a *, which is visible in a file too."""

from collections.abc import Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lightning_embed.report.compare.comparison import Compared
from lightning_embed.report.compare.recipes import Recipe
from lightning_embed.report.console import plainly
from lightning_embed.report.scores.bootstrap import interval
from lightning_embed.report.scores.summary import MEAN, Block, best, metric_name, sections, show, summary, task_name
from lightning_embed.types import BASE, Results

_NAMES_WIDTH, _SCORE_WIDTH = 32, 12  # of columns, spaces included


def print_results(models: Mapping[str, Results], console: Console) -> None:
    """Print the means over tasks, then every test.

    Args:
        models: model -> its scores; with those of single queries, means are compared with the noise.
        console: prints the tables.
    """
    blocks = summary(models)
    if not blocks:
        console.print("Nothing was measured.")
        return
    console.print(means_table(blocks, [_beside_base(models, block) for block in blocks]))
    for table in tests_tables(models, console.width):
        console.print(table)


def means_table(blocks: Sequence[Block], marks: Sequence[Mapping[str, str]]) -> Table:
    """A table of models by tasks, one section per block; `marks` has those of the models' means in each block."""
    tasks = list(dict.fromkeys(task for block in blocks for task in block.tests))
    metrics = {task: name for block in blocks for task, name in block.metrics.items()}
    table = _table("\nmodel")
    for header in [*(f"{task_name(task)}\n{metrics[task]}" for task in tasks), "mean\nof tasks"]:
        table.add_column(plainly(header), justify="right", no_wrap=True)
    for block, marked in zip(blocks, marks, strict=True):
        table.add_row(Text(block.title, style="italic"))
        top = block.best
        for model, row in block.rows.items():
            cells = [_cell(row.get(column), top.get(column)) for column in [*tasks, MEAN]]
            cells[-1].append(marked.get(model, " ") if any(marks) else "")
            table.add_row(plainly(f"  {model}"), *cells)
        table.add_section()
    caption = ["percent points", "* best of its column"]
    if any(marks):
        caption.append("+ above, - below the base by more than the noise of queries (95 %)")
    table.caption = "; ".join(caption)
    return table


def _beside_base(models: Mapping[str, Results], block: Block) -> dict[str, str]:
    """Model -> + or -, if its mean differs from the base's by more than the noise."""
    if block.benchmark is not None:
        return {}  # the scores of mteb's single queries are not stored
    base = models.get(BASE, {})
    found = {
        model: interval({0: scores}, {0: base}, block.split, block.in_domain)
        for model, scores in models.items()
        if model != BASE
    }
    return {m: "+" if apart.difference > 0 else "-" for m, apart in found.items() if apart and apart.outside_noise}


def tests_tables(models: Mapping[str, Results], width: int) -> list[Table]:
    """Tables of tests by models, as many as the width makes necessary."""
    names, per_table = list(models), max(1, (width - _NAMES_WIDTH) // _SCORE_WIDTH)
    return [_tests_table(models, names[i : i + per_table]) for i in range(0, len(names), per_table)]


def print_recipes(compared: Compared, console: Console) -> None:
    """Print recipes with their means in each block, best by `metric` first; test scores never choose."""
    table = _table("\nrecipe")
    several = compared.num_seeds > 1
    for column in ["cost", *(["seeds"] if several else [])]:
        table.add_column(column, justify="right")
    for title in compared.titles:
        table.add_column(title.replace(" ", "\n", 1), justify="right", no_wrap=True)
    for recipe in compared.recipes:
        cost = compared.cost(recipe)
        seeds = [str(len(recipe.seeds))] if several else []
        cells = [_mean_cell(compared, recipe, title) for title in compared.titles]
        table.add_row(plainly(recipe.name), show(cost), *seeds, *cells)
    caption = ["percent points, mean of tasks" + (" ± standard error over seeds" if several else "")]
    caption += [f"cost in {compared.unit}", f"best {compared.chosen_by} first", "* best of its column"]
    if compared.reference is not None:
        noise = "queries and seeds" if several else "queries"
        caption.append(f"+ above, - below {compared.reference} by more than the noise of {noise} (95 %)")
    console.print(table)
    console.print(plainly("; ".join(caption), style="dim italic"))  # rich's own caption would be as narrow as the table


def _mean_cell(compared: Compared, recipe: Recipe, title: str) -> Text:
    mean = compared.means[recipe.name].get(title)
    if mean is None:
        return Text("-   ")
    mark = " "
    if compared.stands_out(recipe, title):
        mark = "+" if compared.differences[recipe.name][title].difference > 0 else "-"
    error = "" if mean.error is None else f" ±{mean.error:.2f}"
    top = compared.is_best(recipe, title)
    return Text(f"{show(mean.points)}{error}{'*' if top else ' '}{mark}", style="bold" if top else "")


def _tests_table(models: Mapping[str, Results], names: Sequence[str]) -> Table:
    table = _table("test set")
    table.add_column("metric", no_wrap=True)
    for name in names:
        table.add_column(plainly(name), justify="right", overflow="fold", min_width=7)
    for block in sections(models):
        table.add_row(Text(block.title, style="italic"))
        for task, tests in block.tests.items():
            for test in tests:
                scores = block.scores[test]
                top = best(scores)
                metric = plainly(block.metrics[task])
                table.add_row(plainly(f"  {test}"), metric, *(_cell(scores[name], top) for name in names))
                for word, other in block.more_of(test).items():
                    cells = [_cell(other[name], best(other)) for name in names]
                    table.add_row("", plainly(metric_name(word)), *cells)
        table.add_section()
    return table


def _table(first: str) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, caption_justify="left")
    table.add_column(first, overflow="fold")
    return table


def _cell(score: float | None, top: str | None) -> Text:
    shown = show(score)
    return Text(f"{shown}*", style="bold") if shown == top else Text(f"{shown} ")
