"""Pictures of the loss between the sources: along paths, and on the plane of two of them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_embed.merge.diagnosis import landscape as measured
from lightning_embed.merge.record.record import NamedModel
from lightning_embed.report.figures.label_placement import add_labels
from lightning_embed.report.figures.style import INK, drawing, save, short
from lightning_embed.report.figures.svg import COLOURS, DASHES
from lightning_embed.report.scores.merge_groups import Examined, Record, examined
from lightning_embed.storage.json_file import cached_json
from lightning_embed.storage.names import visible_in
from lightning_embed.types import BASE

LANDSCAPES = "landscapes"
"""Folder of a run with the measured landscapes."""

PATHS, PLANE = "paths", "plane"  # files, without suffix
_IN_PLANE = 0.1  # of a delta's length outside the plane: with less, the model is drawn as if it were in the plane

Landscape = Mapping[str, Any]
"""A file of `<out>/landscapes`: see `lightning_embed.merge.diagnosis.landscape`."""


@dataclass(frozen=True, kw_only=True)
class StoredLandscape(measured.Landscape):
    """The content of such a file: the losses, and the models between which they were measured."""

    sources: list[NamedModel]
    base: NamedModel | None


def read_landscapes(out: Path) -> list[Landscape]:
    """All landscapes of a folder; a broken one is measured again where it is asked for."""
    found = (cached_json(file, StoredLandscape) for file in sorted((out / LANDSCAPES).glob("*.json")))
    return [visible_in(landscape) for landscape in found if landscape is not None]


def draw_landscape(folder: Path, record: Record, landscape: Landscape) -> None:
    """Write the pictures beside merge.json, as SVG and as PNG."""
    for seen in examined({record["strategy"]: record}):
        searches = {record["strategy"]: record["plan"].get("path", [])}
        for name, figure in landscape_pictures(landscape, seen, searches).items():
            save(figure, folder / name)


def landscape_pictures(landscape: Landscape, seen: Examined, searches: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """The pictures of the paths and the plane, if they were measured, by the name of the file without suffix.

    Args:
        landscape: the measured losses.
        seen: its sources, and the merges that are drawn in the plane.
        searches: name of a merge -> the points of its search.
    """
    paths = {PATHS: draw_paths(landscape)} if landscape["walks"] else {}
    return paths | ({PLANE: draw_plane(landscape, seen, searches)} if landscape["plane"] else {})


def draw_paths(landscape: Landscape) -> Any:
    """One panel per path: the loss of each task, in percent of the base's."""
    walks = landscape["walks"]
    tasks = [task for task in walks[0]["losses"] if task != "mean"] or ["mean"]
    base = {task: walks[0]["losses"][task][0] for task in tasks}  # the first path starts there
    columns = min(3, len(walks))
    with drawing(3.4 * columns, 2.3 * math.ceil(len(walks) / columns)) as figure:
        grid = figure.subplots(math.ceil(len(walks) / columns), columns, sharey=True, squeeze=False)
        for axes in grid.flat[len(walks) :]:
            axes.set_axis_off()
        for axes, walk in zip(grid.flat, walks, strict=False):
            for number, task in enumerate(tasks):
                values = [100 * loss / base[task] for loss in walk["losses"][task]]
                line = {"color": COLOURS[number % 6], "dashes": _dashes(number), "marker": ".", "label": short(task)}
                axes.plot(walk["shares"], values, **line)
                axes.plot([0, 1], [values[0], values[-1]], color="#bbb", linewidth=0.7, zorder=0)
            first, _, last = axes.set_xticks([0, 0.5, 1], [_short(walk["start"]), "half", _short(walk["end"])])
            first.label1.set_horizontalalignment("left")  # centred, they would overlap those of the next panel
            last.label1.set_horizontalalignment("right")
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(axis="y", color="#eee")
        for axes in grid[:, 0]:
            axes.set_ylabel("loss, % of the base's")
        grid[0, 0].legend(frameon=False, fontsize=8)
    return figure


def draw_plane(landscape: Landscape, seen: Examined, searches: Mapping[str, Sequence[Any]]) -> Any:
    """Filled contours of the mean loss, and of each task's where there are several, with all models in them."""
    plane = landscape["plane"]
    tasks = list(plane["losses"])
    with drawing(4.6 * len(tasks), 4.3) as figure:
        for axes, task in zip(figure.subplots(1, len(tasks), squeeze=False).flat, tasks, strict=True):
            _contours(figure, axes, plane, task)
            _models(axes, plane, seen, searches)
    return figure


def _contours(figure: Any, axes: Any, plane: Mapping[str, Any], task: str) -> None:
    ticks, losses = plane["ticks"], np.array(plane["losses"][task])
    filled = axes.contourf(ticks, ticks, losses, levels=14, cmap="YlGnBu")
    axes.contour(ticks, ticks, losses, levels=14, colors="white", linewidths=0.4)
    lowest = np.unravel_index(losses.argmin(), losses.shape)
    axes.plot(ticks[lowest[1]], ticks[lowest[0]], marker="+", color=INK, markersize=9)
    figure.colorbar(filled, ax=axes, shrink=0.8)
    title = "mean loss of the tasks" if task == "mean" and len(plane["losses"]) > 1 else f"loss ({short(task, 24)})"
    axes.set(title=f"{title}; + lowest: {losses.min():.3g}", aspect="equal", xticks=[], yticks=[])


def _models(axes: Any, plane: Mapping[str, Any], seen: Examined, searches: Mapping[str, Sequence[Any]]) -> None:
    """Draw the models: filled in the plane, hollow as projections, with the share of the delta outside as a label."""
    view = _View(plane, seen)
    points, names = [(0.0, 0.0)], [BASE]
    axes.plot(0, 0, marker="s", color=INK, linestyle="")
    for name, products, norm in view.models():
        place, outside = view.place(products, norm)
        flat = outside < _IN_PLANE
        axes.plot(
            *place,
            marker="o" if name in seen.names else "D",
            color=INK,
            markerfacecolor=INK if flat else "white",
            linestyle="",
        )
        points.append(place)
        names.append(name if flat else f"{name} ({outside:.0%} outside)")
    ways = {
        name: [view.place(view.gram @ point["coefficients"], 1.0)[0] for point in path]
        for name, path in searches.items()
        if path
    }
    for name, way in ways.items():  # each ends at its model, whose name is already there
        label = f"search of {short(name)}" if len(ways) == 1 else "searches" if name == next(iter(ways)) else None
        axes.plot(*zip(*way, strict=True), color="#d55e00", linewidth=1.2, label=label)
        axes.legend(loc="upper right", fontsize=7, framealpha=0.8)
    for place in plane["places"]:
        axes.plot([0, place[0]], [0, place[1]], color=INK, linewidth=0.8, linestyle=":")
    edge = [plane["ticks"][0], plane["ticks"][-1], *(part for place in points for part in place)]
    margin = 0.04 * (max(edge) - min(edge))
    axes.set(xlim=(min(edge) - margin, max(edge) + margin), ylim=(min(edge) - margin, max(edge) + margin))
    if any("outside" in name for name in names):
        axes.set_xlabel("hollow: the nearest point in the plane, with a different loss", fontsize=8)
    add_labels(axes, points, names)


class _View:
    """The projection of deltas to the picture, from their inner products with the sources' deltas."""

    def __init__(self, plane: Mapping[str, Any], seen: Examined) -> None:
        self.seen = seen
        self.norms: NDArray[np.float64] = np.array(seen.geometry["delta_norms"])
        self.gram = np.outer(self.norms, self.norms) * np.array(seen.geometry["delta_cosines"])
        self.pair = [seen.names.index(name) for name in plane["sources"]]
        self.places = np.array(plane["places"])

    def models(self) -> list[tuple[str, NDArray[np.float64], float]]:
        """Name, inner products with the sources' deltas, and length, of the sources and then the merges."""
        sources = [(name, self.gram[i], float(self.norms[i])) for i, name in enumerate(self.seen.names)]
        merges = [
            (name, found["merged_norm"] * self.norms * np.array(found["merged_cosines"]), found["merged_norm"])
            for name, found in self.seen.merges.items()
        ]
        return sources + merges

    def place(self, products: NDArray[np.float64], norm: float) -> tuple[tuple[float, float], float]:
        """Coordinates of the nearest point in the plane, and the share of the length outside the plane."""
        near = products[self.pair]
        weights = np.linalg.solve(self.gram[np.ix_(self.pair, self.pair)], near)
        inside = float(weights @ near) / norm**2 if norm else 1.0
        x, y = weights @ self.places
        return (float(x), float(y)), math.sqrt(max(0.0, 1 - inside))


def _dashes(number: int) -> tuple[None, None] | list[float]:
    return [float(part) for part in DASHES[number % 6].split()] or (None, None)


def _short(name: str) -> str:
    return name if len(name) <= 12 else f"{name[:5]}…{name[-6:]}"
