"""Draw how the tasks of a run agreed: cosines of their gradients against steps, one picture per expert.

python train.py experts=joint callback=diagnostics out=runs/joint
python benchmarks/conflict.py runs/joint            (reads runs/joint/logs, writes runs/joint/conflict-<expert>.png)

One panel per pair of tasks: the embeddings, each layer from the first (dark) to the last (light), all parameters.
"""

import csv
import re
import sys
from collections import defaultdict
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Curve = dict[int, float]  # step -> cosine
_METRIC = re.compile(r"conflict/cosine/(.+)/(.+)")
_FIXED = {
    "all": {"color": "black", "linewidth": 2.2, "zorder": 3},
    "embeddings": {"color": "tab:orange", "linestyle": "--"},
    "other": {"color": "tab:grey", "linestyle": ":"},
}


def read(folder: Path) -> dict[str, dict[str, Curve]]:
    """The curves of an expert, pair of tasks -> group -> curve; a resumed training goes on in the next version."""
    curves: dict[str, dict[str, Curve]] = defaultdict(lambda: defaultdict(dict))
    for path in sorted(folder.glob("version_*/metrics.csv"), key=lambda path: int(path.parent.name.split("_")[1])):
        with path.open() as file:
            for row in csv.DictReader(file):
                for metric, value in row.items():
                    if value and (found := _METRIC.fullmatch(metric)):
                        curves[found[1]][found[2]][int(row["step"])] = float(value)
    return curves


def draw(curves: dict[str, dict[str, Curve]], title: str, path: Path) -> None:
    """One panel per pair."""
    columns = min(3, len(curves))
    rows = -(-len(curves) // columns)
    figure = Figure(figsize=(4.2 * columns + 1.6, 3.3 * rows + 0.4), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes, (pair, groups) in zip(panels.flat, sorted(curves.items()), strict=False):
        panel(axes, pair, groups)
    for axes in panels.flat[len(curves) :]:
        axes.set_visible(False)
    figure.supxlabel("step", fontsize="medium")
    figure.supylabel("cosine of the two gradients", fontsize="medium")
    figure.suptitle(title)
    handles, labels = panels.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize="small")
    figure.savefig(path, dpi=150)


def panel(axes: Axes, pair: str, groups: dict[str, Curve]) -> None:
    """All groups of one pair; below zero the tasks pull against each other."""
    layers = sorted((group for group in groups if group not in _FIXED), key=lambda group: int(group.split("_")[1]))
    shades = matplotlib.colormaps["viridis"].resampled(len(layers) + 1)  # the last shade is too pale to read
    styles = {**_FIXED, **{layer: {"color": shades(number)} for number, layer in enumerate(layers)}}
    axes.axhline(0, color="black", linewidth=0.8)
    for group in ("all", "embeddings", *layers, "other"):
        if group in groups:
            curve = dict(sorted(groups[group].items()))
            axes.plot(list(curve), list(curve.values()), label=group.replace("_", " "), marker=".", **styles[group])
    axes.set_title(pair, fontsize="medium")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", linewidth=0.3)


def main(out: str) -> None:
    """Draw every expert that was measured."""
    found = False
    for folder in sorted(Path(out).glob("logs/*")):
        if curves := read(folder):
            found = True
            path = Path(out, f"conflict-{folder.name}.png")
            draw(curves, f"Agreement of tasks, {folder.name}", path)
            print(path)
    if not found:
        sys.exit(f"{out}: no conflict was logged; train with callback=diagnostics and experts that have several tasks.")


if __name__ == "__main__":
    main(sys.argv[1])
