"""The loss between the sources, along the straight paths from model to model and on the plane of two task vectors."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from lightning_embed.errors import ConfigError
from lightning_embed.merge.contract import Model, Probe
from lightning_embed.merge.diagnosis.geometry import GroupGeometry
from lightning_embed.merge.diagnosis.options import DoctorOptions
from lightning_embed.merge.methods.linear import ALL, combined
from lightning_embed.types import BASE

Point = tuple[float, ...]
"""Coefficients of a model: base + sum_i point_i delta_i."""

Losses = dict[str, float]
"""Task -> mean loss of its batches."""

Track = Callable[[Sequence[Point]], Iterable[Point]]
"""Shows the progress of a long loop."""

_LONGER_SIDE = 0.7  # larger coordinate of the longer task vector, as in the figure of Self Positioning
_NO_BARRIER = 0.02  # of the mean loss of the ends: a few batches cannot distinguish less from zero
_ANY = "mean"


@dataclass(frozen=True)
class Walk:
    """The losses along the straight path between two models.

    Args:
        start: name of the first model.
        end: name of the last model.
        shares: of the way, from 0 to 1.
        losses: task, or "mean" of all tasks -> a loss for each share.
    """

    start: str
    end: str
    shares: list[float]
    losses: dict[str, list[float]]

    def barrier(self, task: str = _ANY) -> tuple[float, float]:
        """The largest height of the loss above the straight line between its ends, and its share of the way.

        The error barrier of Frankle et al. (2020, arXiv 1912.05671); 0 if the loss never rises above the line.
        """
        values = self.losses[task]
        heights = [
            (loss - (1 - share) * values[0] - share * values[-1], share)
            for share, loss in zip(self.shares, values, strict=True)
        ]
        return max(heights)


@dataclass(frozen=True)
class Plane:
    """The losses on the plane of two task vectors, as in Self Positioning (2024, arXiv 2410.15035, appendix C).

    The base is at (0, 0). The vectors lie symmetrically about the diagonal, at their true angle. The larger coordinate
    of the longer vector is 0.7; the shorter one is drawn to the same scale.

    Args:
        sources: names of the two sources.
        places: their coordinates.
        ticks: coordinates of the rows and columns.
        losses: task, or "mean" of all tasks -> row from below -> column -> loss.
    """

    sources: list[str]
    places: list[list[float]]
    ticks: list[float]
    losses: dict[str, list[list[float]]]


@dataclass(frozen=True)
class Landscape:
    """The losses of a probe between the sources.

    Args:
        walks: from the base to each source, then from source to source.
        plane: of two sources.
        batches: number of batches of the probe at every point.
        findings: interpretation, in sentences.
    """

    walks: list[Walk]
    plane: Plane | None
    batches: int
    findings: list[str]

    def as_json(self) -> dict[str, Any]:
        """The fields as plain values."""
        return asdict(self)


def survey(
    sources: Sequence[Model],
    base: Model,
    probe: Probe,
    geometry: GroupGeometry,
    options: DoctorOptions,
    track: Track = iter,
) -> Landscape:
    """Measure the losses. A point takes one model in memory and a forward pass per batch; none is measured twice.

    Args:
        sources: at least two.
        base: model that they started from.
        probe: measures; the tasks of its batches take turns, so give it a multiple of their number.
        geometry: of these sources, for the whole model.
        options: number of points and batches, and the two sources of the plane. The batches are the same for all
            points.
        track: shows the progress.

    Two sources on one line with the base span no plane; a finding reports that.

    Raises:
        ConfigError: a loss that is not finite.
    """
    points, names = options.points, [source.name for source in sources]
    one, other = options.plane or names[:2]
    pair = names.index(one), names.index(other)
    paths = list(_paths(len(sources), points)) if points else []
    places = _places(geometry, pair) if options.grid else []
    ticks = _ticks(places, options.grid) if places else []
    cells = [[_point(len(sources), pair, places, (x, y)) for x in ticks] for y in ticks]
    wanted = dict.fromkeys([point for _, _, way in paths for point in way] + [point for row in cells for point in row])
    measure = _Measure(sources, base, probe, options.batches)
    losses = {point: measure(point) for point in track(list(wanted))}
    corners = [BASE, *names]
    shares = [place / (points + 1) for place in range(points + 2)]
    walks = [Walk(corners[i], corners[j], shares, _by_task([losses[point] for point in way])) for i, j, way in paths]
    rows = [_by_task([losses[point] for point in row]) for row in cells]
    by_task = {task: [row[task] for row in rows] for task in rows[0]} if rows else {}
    plane = Plane([one, other], places, ticks, by_task) if places else None
    findings = [finding for walk in walks for finding in _findings(walk)]
    if options.grid and plane is None:
        findings.append(
            f"{one!r} and {other!r} lie on one line with the base and span no plane. "
            "Name two different sources with doctor.plane=[...]."
        )
    return Landscape(walks, plane, options.batches, findings)


class _Measure:
    """The mean loss of each task at a point."""

    def __init__(self, sources: Sequence[Model], base: Model, probe: Probe, batches: int) -> None:
        self.sources, self.base, self.probe, self.batches = sources, base, probe, batches
        self.parameters: dict[str, Tensor] | None = None  # of the model at a point, overwritten at the next point

    def __call__(self, point: Point) -> Losses:
        self.parameters = combined(self.sources, self.base, {ALL: point}, self.parameters)
        found: dict[str, list[float]] = {}
        for batch in range(self.batches):
            found.setdefault(self.probe.task(batch), []).append(self.probe.loss(self.parameters, batch))
        means = {task: sum(losses) / len(losses) for task, losses in sorted(found.items())}
        if not all(map(math.isfinite, means.values())):
            raise ConfigError(
                f"doctor: the loss of the model with the shares {[round(share, 2) for share in point]} of the deltas "
                f"is {means}. Set doctor.grid=0, or use different losses."
            )
        return {_ANY: sum(means.values()) / len(means), **means} if len(means) > 1 else {_ANY: min(means.values())}


def _paths(count: int, points: int) -> Iterator[tuple[int, int, list[Point]]]:
    """(start, end, points) of each path; start and end are numbers of models, and 0 is the base."""
    corners = [(0.0,) * count, *(tuple(1.0 if i == j else 0.0 for j in range(count)) for i in range(count))]
    for i, j in combinations(range(count + 1), 2):
        shares = [place / (points + 1) for place in range(points + 2)]
        yield i, j, [_between(corners[i], corners[j], share) for share in shares]


def _between(start: Point, end: Point, share: float) -> Point:
    return tuple((1 - share) * one + share * other for one, other in zip(start, end, strict=True))


def _by_task(losses: Sequence[Losses]) -> dict[str, list[float]]:
    return {task: [found[task] for found in losses] for task in losses[0]}


def _places(geometry: GroupGeometry, pair: tuple[int, int]) -> list[list[float]]:
    """The coordinates of the two vectors in the figure; empty, if they span no plane."""
    one, other = (geometry.delta_norms[i] for i in pair)
    cosine = geometry.delta_cosines[pair[0]][pair[1]]
    if not (one and other) or abs(cosine) > 0.9999:
        return []
    half = math.acos(cosine) / 2
    directions = [(math.cos(math.pi / 4 + turn), math.sin(math.pi / 4 + turn)) for turn in (-half, half)]
    scale = _LONGER_SIDE / (max(one, other) * directions[0][0])
    return [
        [scale * length * part for part in direction]
        for length, direction in zip((one, other), directions, strict=True)
    ]


def _ticks(places: Sequence[Sequence[float]], grid: int) -> list[float]:
    """Coordinates from that of the base, or from the lowest one of vectors at an obtuse angle, to 1."""
    low = min([0.0, *(part for place in places for part in place)])
    return [low + (1 - low) * number / (grid - 1) for number in range(grid)]


def _point(count: int, pair: tuple[int, int], places: Sequence[Sequence[float]], at: tuple[float, float]) -> Point:
    """The model at coordinates of the figure."""
    weights = torch.linalg.solve(torch.tensor(places, dtype=torch.float64).T, torch.tensor(at, dtype=torch.float64))
    found = dict(zip(pair, weights.tolist(), strict=True))
    return tuple(found.get(i, 0.0) for i in range(count))


def _findings(walk: Walk) -> Iterator[str]:
    """A sentence about the barrier on a path; none for a path from the base whose lowest loss is at the source."""
    where, tasks = f"Between {walk.start!r} and {walk.end!r}", [task for task in walk.losses if task != _ANY] or [_ANY]
    heights = {task: walk.barrier(task) for task in tasks}
    ends = {task: abs(walk.losses[task][0]) + abs(walk.losses[task][-1]) for task in tasks}
    task = max(tasks, key=lambda task: heights[task][0] / (ends[task] or 1))  # losses have different scales
    height, share = heights[task]
    if height > _NO_BARRIER * ends[task] / 2:
        yield (
            f"{where} there is a barrier: {share:.0%} of the way the loss{_on(task)} is {height:.2g} above the line of "
            "its ends. A plain average will suffer."
        )
        return
    lowest = {task: min(zip(walk.losses[task], walk.shares, strict=True))[1] for task in tasks}
    if walk.start != BASE or min(lowest.values()) < 1:
        places = [f"{best:.0%} of the way{_on(task)}" for task, best in lowest.items()]
        yield f"{where} there is no barrier; the loss is lowest {', '.join(places)}."


def _on(task: str) -> str:
    return "" if task == _ANY else f" on {task}"
