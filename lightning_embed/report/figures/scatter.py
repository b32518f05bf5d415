"""Picture of all models of a folder or a sweep: scores in domain against scores out of domain."""

from collections.abc import Mapping, Sequence
from typing import Any

from lightning_embed.report.figures.label_placement import add_labels
from lightning_embed.report.figures.style import INK, MARKS, WORDS, drawing
from lightning_embed.report.scores.model_kinds import Kind
from lightning_embed.report.scores.summary import MEAN, block, by_dev
from lightning_embed.types import Results

_MOST_NAMES = 24  # of merges, the best on dev
_SOFT = "#bbb"


def scatter(
    models: Mapping[str, Results], kinds: Mapping[str, Kind], names: Mapping[str, str] | None = None
) -> Any | None:
    """The figure; None if fewer than two models were measured both in domain and out of domain.

    Args:
        models: model -> its scores.
        kinds: model -> its kind.
        names: model -> the name beside its point, if it differs.
    """
    inside, outside = block(models, "test", True), block(models, "test", False)
    if inside is None or outside is None:
        return None
    at = {
        model: (x, y)
        for model in by_dev(models)
        if (x := inside.rows[model][MEAN]) is not None and (y := outside.rows[model][MEAN]) is not None
    }
    return _draw(at, kinds, names or {}) if len(at) > 1 else None


def _draw(at: Mapping[str, tuple[float, float]], kinds: Mapping[str, Kind], names: Mapping[str, str]) -> Any:
    with drawing(7.2, 5.2) as figure:
        axes = figure.subplots()
        for kind in Kind:
            if points := [place for model, place in at.items() if kinds[model] is kind]:
                fill = INK if kind in (Kind.base, Kind.merge) else "white"
                size = 90 if kind is Kind.ensemble else 30
                axes.scatter(
                    [x for x, _ in points],
                    [y for _, y in points],
                    s=size,
                    marker=MARKS[kind],
                    facecolor=fill,
                    edgecolor=INK,
                    label=WORDS[kind],
                    zorder=3,
                )
        for model, (x, y) in at.items():
            if kinds[model] is Kind.base:
                axes.axvline(x, color=_SOFT, linewidth=0.8, zorder=0)
                axes.axhline(y, color=_SOFT, linewidth=0.8, zorder=0)
        axes.set(xlabel="test in domain, points (mean of tasks)", ylabel="test out of domain, points (mean of tasks)")
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(0.12)
        figure.legend(loc="outside upper left", ncols=4, frameon=False, fontsize=8)
        shown = _shown(at, kinds)
        add_labels(
            axes, [at[model] for model in shown], [names.get(model, model) for model in shown], others=list(at.values())
        )
    return figure


def _shown(at: Mapping[str, tuple[float, float]], kinds: Mapping[str, Kind]) -> Sequence[str]:
    """The models with a name beside their point: all that are not merges, then the best merges."""
    compared = [model for model in at if kinds[model] is not Kind.merge]
    return [*compared, *[model for model in at if kinds[model] is Kind.merge][:_MOST_NAMES]]
