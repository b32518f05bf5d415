"""Names beside points, placed so that they cover neither each other nor other points."""

from collections.abc import Iterator, Sequence
from typing import Any

from lightning_embed.report.figures.style import short

Box = tuple[float, float, float, float]  # left, bottom, right, top, in typographic points

_MARK = 4.0  # half a marker
_WIDE, _HIGH = 0.60, 1.25  # of a letter, in font sizes
_AROUND = ((1, 0), (1, 1), (1, -1), (-1, 0), (-1, 1), (-1, -1), (0, 1), (0, -1))


def add_labels(
    axes: Any,
    points: Sequence[tuple[float, float]],
    names: Sequence[str],
    others: Sequence[tuple[float, float]] = (),
    size: float = 8.0,
) -> None:
    """Write `names` beside `points`; earlier names get the better places, and a distant name a line to its point.

    Args:
        axes: of matplotlib, with everything else drawn.
        points: in the units of the data.
        names: of the points.
        others: further points that must not be covered.
        size: of the letters, in typographic points.
    """
    axes.figure.draw_without_rendering()
    unit, frame = 72 / axes.figure.dpi, axes.get_window_extent()
    room = (unit * frame.x0, unit * frame.y0, unit * frame.x1, unit * frame.y1)
    at = [(unit * x, unit * y) for x, y in map(axes.transData.transform, [*points, *others])]
    taken = [(x - _MARK, y - _MARK, x + _MARK, y + _MARK) for x, y in at]
    for place, point, name in zip(at, points, map(short, names), strict=False):
        (dx, dy), box = best_place(place, (_WIDE * size * len(name), _HIGH * size), taken, room)
        taken.append(box)
        line = {"arrowstyle": "-", "color": "#999", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3}
        style: dict[str, Any] = {"arrowprops": line} if max(abs(dx), abs(dy)) > 3 * _MARK else {}
        side = {1: "left", 0: "center", -1: "right"}[(dx > 0) - (dx < 0)]
        ground = {"boxstyle": "round,pad=0.1", "facecolor": "white", "alpha": 0.6, "linewidth": 0}
        style |= {"ha": side, "va": "center", "size": size, "bbox": ground}
        axes.annotate(name, point, (dx, dy), textcoords="offset points", **style)


def best_place(
    at: tuple[float, float], size: tuple[float, float], taken: Sequence[Box], room: Box
) -> tuple[tuple[float, float], Box]:
    """The offset and the box with the least area over `taken` or outside `room`; of equal ones, the nearest to `at`."""
    found = [(_cost(box, taken, room), order, offset, box) for order, (offset, box) in enumerate(_places(at, size))]
    _, _, offset, box = min(found)
    return offset, box


def _places(at: tuple[float, float], size: tuple[float, float]) -> Iterator[tuple[tuple[float, float], Box]]:
    """Offsets and boxes around the point, near ones first."""
    (x, y), (width, height) = at, size
    for distance in (1.5, 4.0, 7.0, 10.0, 14.0):
        for side, up in _AROUND:
            half = height / 2 if side == 0 else 0.0
            dx, dy = side * _MARK * min(distance, 4.0), up * (_MARK * distance * 0.7 + half)
            left = x + dx - (0 if side > 0 else width if side < 0 else width / 2)
            yield (dx, dy), (left, y + dy - height / 2, left + width, y + dy + height / 2)


def _cost(box: Box, taken: Sequence[Box], room: Box) -> float:
    covered = sum(_overlap(box, other) for other in taken)
    outside = (box[2] - box[0]) * (box[3] - box[1]) - _overlap(box, room)
    return round(covered + outside, 6)


def _overlap(one: Box, other: Box) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return width * height if width > 0 and height > 0 else 0.0
