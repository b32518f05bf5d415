"""Picture of quality against cost: the points of each recipe, and its cost in joint trainings."""

from collections.abc import Sequence
from typing import Any

from lightning_embed.report.compare.comparison import Compared
from lightning_embed.report.compare.recipes import Recipe
from lightning_embed.report.figures.label_placement import add_labels
from lightning_embed.report.figures.style import INK, MARKS, WORDS, drawing, short
from lightning_embed.report.scores.model_kinds import Kind

_SOFT, _MOST_NAMES = "#999", 3  # names: the recipe that dev chooses, and the best of the panel


def quality(compared: Compared) -> Any | None:
    """A figure with a panel per block: points against cost, with standard errors; None if costs are not known."""
    drawn = [r for r in compared.recipes if r.rows is not None and r.kind is not Kind.base and compared.means[r.name]]
    if len({r.rows for r in drawn}) < 2:
        return None
    titles = [title for title in compared.titles if title != "dev"] or compared.titles
    with drawing(5.0 * len(titles), 4.6) as figure:
        for axes, title in zip(figure.subplots(1, len(titles), squeeze=False)[0], titles, strict=True):
            _panel(axes, compared, drawn, title)
        named = {name: h for axes in figure.axes for h, name in zip(*axes.get_legend_handles_labels(), strict=True)}
        figure.legend(
            named.values(),
            named.keys(),
            loc="outside upper left",
            ncols=max(4, 2 * len(titles)),
            frameon=False,
            fontsize=8,
        )
    return figure


def _panel(axes: Any, compared: Compared, drawn: Sequence[Recipe], title: str) -> None:
    drawn = [recipe for recipe in drawn if title in compared.means[recipe.name]]
    for kind, mark in MARKS.items():
        if group := [recipe for recipe in drawn if recipe.kind is kind]:
            means = [compared.means[recipe.name][title] for recipe in group]
            axes.errorbar(
                [compared.cost(recipe) for recipe in group],
                [mean.points for mean in means],
                yerr=[mean.error or 0 for mean in means],
                fmt=mark,
                markersize=9 if kind is Kind.ensemble else 5,
                markerfacecolor=INK if kind is Kind.merge else "white",
                markeredgecolor=INK,
                ecolor=_SOFT,
                elinewidth=0.8,
                linestyle="none",
                label=WORDS[kind],
            )
    for recipe in compared.recipes:
        if title in compared.means[recipe.name] and (recipe.kind is Kind.base or recipe.name == compared.reference):
            dashes = "--" if recipe.kind is Kind.base else "-"
            points = compared.means[recipe.name][title].points
            axes.axhline(points, color=_SOFT, linewidth=0.9, linestyle=dashes, zorder=0, label=short(recipe.name))
    axes.set(title=title, xlabel=f"cost, in {compared.unit}", ylabel="points, mean of tasks")
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(0.12)
    at = {recipe.name: (compared.cost(recipe) or 0.0, compared.means[recipe.name][title].points) for recipe in drawn}
    complete = [recipe.name for recipe in drawn if compared.is_complete(recipe)]
    chosen = [compared.chosen.name] if compared.chosen is not None and compared.chosen.name in at else []
    named = list(dict.fromkeys([*chosen, *sorted(complete, key=lambda name: -at[name][1])]))[:_MOST_NAMES]
    add_labels(axes, [at[name] for name in named], named, others=list(at.values()), size=7.0)
