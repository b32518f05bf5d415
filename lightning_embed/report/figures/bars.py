"""Bar charts as inline SVG, with bars distinct by name, number and shade, for printing in grey too."""

from collections.abc import Mapping

from lightning_embed.report.figures.style import INK, as_svg, drawing, short
from lightning_embed.report.scores.summary import MEAN, Block, is_ensemble, task_name
from lightning_embed.types import BASE

_OTHER = "#a6a6a6"
_LETTER = 0.083  # inches, of ten points


def panels(block: Block) -> list[str]:
    """One SVG per column: the models' difference from the base, or their scores if there is no base."""
    return [_panel(block, column) for column in block.columns]


def _panel(block: Block, column: str) -> str:
    scores = {model: score for model, row in block.rows.items() if (score := row[column]) is not None}
    origin = scores.pop(BASE, None)
    bars = {model: score - (origin or 0) for model, score in scores.items()}
    name = "mean of tasks" if column == MEAN else f"{task_name(column)} {block.metrics[column]}"
    unit = f"points above base ({origin:.2f})" if origin is not None else "points"
    return _draw(bars, name, unit, signed=origin is not None)


def _draw(bars: Mapping[str, float], title: str, unit: str, signed: bool) -> str:
    longest = max(map(len, bars), default=0)  # names of merges that differ in several options are long
    with drawing(2.0 + _LETTER * max(17, longest), 0.9 + 0.25 * max(1, len(bars)), letters=10) as figure:
        axes = figure.subplots()
        best = max([0.0, *(value for model, value in bars.items() if not is_ensemble(model))])  # 0 is the base
        colours = [INK if value == best else _OTHER for value in bars.values()]
        drawn = axes.barh(list(bars), list(bars.values()), color=colours, height=0.7)
        for model, bar in zip(bars, drawn, strict=True):
            if is_ensemble(model):
                bar.set(facecolor="white", edgecolor=_OTHER)
        for row, value in enumerate(
            bars.values()
        ):  # in a column of their own: beside a bar they would overlap the names
            axes.text(
                1.04,
                row,
                f"{value:+.2f}" if signed else f"{value:.2f}",
                va="center",
                transform=axes.get_yaxis_transform(),
            )
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.invert_yaxis()
        axes.set(title=short(title), xlabel=unit)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
        return as_svg(figure)
