"""Curves of the cosines between the tasks' gradients against steps, as `callback=diagnostics` logs them."""

import csv
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning_embed.report.figures.style import INK, drawing, short

Curve = dict[int, float]
"""Step -> cosine."""

Curves = Mapping[str, Mapping[str, Curve]]
"""Pair of tasks -> group of parameters -> its curve."""

_METRIC = re.compile(r"conflict/cosine/(.+)/(.+)")
_VERSION = re.compile(r"version_(\d+)")
_FIXED: Mapping[str, Mapping[str, Any]] = {
    "all": {"color": INK, "linewidth": 2.2, "zorder": 3},
    "embeddings": {"color": "tab:orange", "linestyle": "--"},
    "other": {"color": "tab:grey", "linestyle": ":"},
}


def read_conflict(folder: Path) -> Curves:
    """The curves of an expert, from `<out>/logs/<expert>`; a resumed training continues in the next version."""
    curves: dict[str, dict[str, Curve]] = defaultdict(lambda: defaultdict(dict))
    files = {int(v[1]): f for f in folder.glob("*/metrics.csv") if (v := _VERSION.fullmatch(f.parent.name))}
    for _, path in sorted(files.items()):
        with path.open() as file:
            for row in csv.DictReader(file):
                if None in row.values():
                    continue  # a killed training left half a line
                for metric, value in row.items():
                    if value and (found := _METRIC.fullmatch(metric)):
                        curves[found[1]][found[2]][int(row["step"])] = float(value)
    return curves


def draw_conflict(curves: Curves, title: str) -> Any:
    """A figure with one panel per pair: embeddings, layers from first (dark) to last (light), all parameters."""
    columns = min(3, len(curves))
    rows = -(-len(curves) // columns)
    with drawing(4.2 * columns + 1.6, 3.3 * rows + 0.4) as figure:
        panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for axes, (pair, groups) in zip(panels.flat, sorted(curves.items()), strict=False):
            _panel(axes, pair, groups)
        for axes in panels.flat[len(curves) :]:
            axes.set_visible(False)
        figure.supxlabel("step", fontsize="medium")
        figure.supylabel("cosine of the two gradients", fontsize="medium")
        figure.suptitle(short(title, 80))
        handles, labels = panels.flat[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize="small")
    return figure


def _panel(axes: Any, pair: str, groups: Mapping[str, Curve]) -> None:
    """Draw all groups of one pair; below zero the tasks' gradients oppose each other."""
    from matplotlib import colormaps

    layers = sorted((group for group in groups if group not in _FIXED), key=lambda group: int(group.split("_")[1]))
    shades = colormaps["viridis"].resampled(len(layers) + 1)  # the last shade is too pale to read
    styles: dict[str, Mapping[str, Any]] = {
        **_FIXED,
        **{layer: {"color": shades(number)} for number, layer in enumerate(layers)},
    }
    axes.axhline(0, color=INK, linewidth=0.8)
    for group in ("all", "embeddings", *layers, "other"):
        if group in groups:
            curve = dict(sorted(groups[group].items()))
            axes.plot(list(curve), list(curve.values()), label=group.replace("_", " "), marker=".", **styles[group])
    axes.set_title(short(pair), fontsize="medium")
    axes.xaxis.get_major_locator().set_params(integer=True)  # steps
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", linewidth=0.3)
