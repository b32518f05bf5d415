"""Line charts and heat maps as SVG, written as text: importing matplotlib takes as long as a small merge.

Lines are distinct by the name at their end and by their dashes, cells by their number, for printing in grey too.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 340.0
_INK, _SOFT, _LINE = "#1a1a1a", "#666", "#ddd"
# Okabe and Ito's colours, which colour-blind people can distinguish; merged models and single lines are black.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
DASHES = ("", "6 3", "2 2", "8 3 2 3", "10 4", "4 2 1 2")
_LEFT, _TOP, _HEIGHT, _BOTTOM = 46.0, 42.0, 150.0, 64.0
_LETTER = 6.4  # width of one in a name
_LABEL = 12.0  # height of a line of text
_MOST_TICKS = 14  # names along the x axis
_LONGEST = 16  # letters of a name

Values = Sequence[float | None]


def lines(
    title: str,
    unit: str,
    places: Sequence[str],
    series: Mapping[str, Values],
    *,
    bold: Sequence[str] = (),
    level: tuple[str, float] | None = None,
) -> str:
    """A chart with a line per series over the layers of a model.

    Args:
        title: above the chart.
        unit: of the values.
        places: names of the layer groups.
        series: name -> one value per place; None: a gap.
        bold: the series that are drawn in black.
        level: name and value of a horizontal line to compare with.
    """
    known = [value for values in series.values() for value in values if value is not None]
    ticks = nice_ticks(min([0.0, *known]), max([0.0, *known, *([level[1]] if level else [])]))
    low, high = ticks[0], ticks[-1]
    right = WIDTH - 8 - _width([*series, *([level[0]] if level else [])])

    def x(place: int) -> float:
        return _LEFT + (right - _LEFT) * (place + 0.5) / len(places)

    def y(value: float) -> float:
        return _TOP + _HEIGHT * (high - value) / (high - low)

    parts = [
        _title(title),
        _text(4.0, _TOP - 14, unit, _Letters(anchor="start", colour=_SOFT, longest=40)),
    ]
    for tick in ticks:
        parts.append(_line(_LEFT, y(tick), right, y(tick), _INK if tick == 0 else _LINE))
        parts.append(_text(_LEFT - 5, y(tick) + 3.5, f"{tick:g}", _Letters(anchor="end")))
    parts += _places(places, x)
    ends = {}
    for number, (name, values) in enumerate(series.items()):
        style = (COLOURS[number % 6], DASHES[(number + number // 6) % 6], 1.6)  # 36 distinct pairs
        if name in bold:
            style = (_INK, DASHES[bold.index(name) % 6], 2.2)
        points = [(x(place), y(value)) for place, value in enumerate(values) if value is not None]
        parts.append(_path(points, *style))
        ends[name] = (points[-1][1], style[0])
    if level:
        parts.append(_line(_LEFT, y(level[1]), right, y(level[1]), _SOFT, "3 3"))
        ends[level[0]] = (y(level[1]), _SOFT)
    parts += _end_labels(ends, right)
    return _frame(parts, _TOP + _HEIGHT + _BOTTOM)


def heat_map(title: str, rows: Sequence[str], columns: Sequence[str], values: Sequence[Sequence[float]]) -> str:
    """A heat map of numbers from -1 to 1: blue above 0, orange below."""
    names, top = 12 + _width(rows), 38 + 0.6 * _width(columns)
    side = min(46.0, (WIDTH - names - 8) / len(columns), max(16.0, 180 / len(rows)))
    left = max(names, (WIDTH - side * len(columns)) / 2)
    parts = [_title(title)]
    for column, name in enumerate(columns):
        parts.append(_text(left + side * (column + 0.5), top - 6, name, _Letters(turn=-35.0, anchor="start")))
    for row, name in enumerate(rows):
        middle = top + side * (row + 0.5)
        parts.append(_text(left - 6, middle + 3.5, name, _Letters(anchor="end")))
        for column, value in enumerate(values[row]):
            corner = f'x="{left + side * column:.1f}" y="{middle - side / 2:.1f}"'
            square = f'width="{side - 1:.1f}" height="{side - 1:.1f}"'
            colour = COLOURS[0] if value >= 0 else COLOURS[1]
            parts.append(f'<rect {corner} {square} fill="{colour}" fill-opacity="{0.06 + 0.8 * abs(value):.3f}"/>')
            letters = _Letters(colour="#fff" if abs(value) > 0.6 else _INK, size=min(10.0, side / 3))
            parts.append(_text(left + side * (column + 0.5), middle + 3.5, f"{value:.2f}", letters))
    return _frame(parts, top + side * len(rows) + 14)


def beside_each_other(charts: Sequence[str], columns: int = 2) -> str:
    """Several charts in one image, in rows of `columns`."""
    heights = [float(chart.split('viewBox="0 0 ')[1].split('"')[0].split()[1]) for chart in charts]
    parts, top = [], 0.0
    for start in range(0, len(charts), columns):
        row = range(start, min(start + columns, len(charts)))
        parts += [charts[i].replace("<svg ", f'<svg x="{(i - start) * (WIDTH + 20)}" y="{top:.0f}" ', 1) for i in row]
        top += max(heights[i] for i in row) + 10
    return _frame(parts, top, columns * (WIDTH + 20))


def nice_ticks(low: float, high: float) -> list[float]:
    """Three to seven round numbers that span low and high."""
    reach = (high - low) or 1.0
    unit = 10.0 ** math.floor(math.log10(reach / 3))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if reach / (unit * factor) <= 5)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, max(last, first + 1) + 1)]


def _places(places: Sequence[str], x: Callable[[int], float]) -> list[str]:
    """Labels of the x axis: numbered layers by number, with their common name below; other modules by name."""
    numbered = [place.rpartition(".") for place in places]
    counted = [i for i, (_, _, last) in enumerate(numbered) if last.isdigit()]
    shown = set(counted[:: math.ceil(len(counted) / _MOST_TICKS)]) if counted else set()
    below = _TOP + _HEIGHT + 14
    parts = []
    for place, (_, _, last) in enumerate(numbered):
        if place in shown:
            parts.append(_text(x(place), below, last))
        elif place not in counted:
            parts.append(_text(x(place) + 3, below, last, _Letters(turn=-50.0, anchor="end")))
    if counted:
        middle = (x(counted[0]) + x(counted[-1])) / 2
        kinds = ", ".join(dict.fromkeys(numbered[i][0] for i in counted))
        parts.append(_text(middle, below + 16, kinds, _Letters(colour=_SOFT, longest=40)))
    return parts


def _end_labels(ends: Mapping[str, tuple[float, str]], right: float) -> list[str]:
    """Names at the ends of lines, moved apart where they would overlap."""
    order = sorted(ends, key=lambda name: ends[name][0])
    heights = [ends[name][0] for name in order]
    for i in range(1, len(heights)):
        heights[i] = max(heights[i], heights[i - 1] + _LABEL)
    overflow = max(0.0, heights[-1] - (_TOP + _HEIGHT + 4)) if heights else 0.0
    for i in reversed(range(len(heights))):
        limit = heights[i + 1] - _LABEL if i + 1 < len(heights) else heights[i] - overflow
        heights[i] = min(heights[i], limit)
    return [
        _text(right + 4, height + 3.5, name, _Letters(anchor="start", colour=ends[name][1]))
        for name, height in zip(order, heights, strict=True)
    ]


def _width(names: Sequence[str]) -> float:
    """The width of the longest name."""
    return _LETTER * max(min(_LONGEST, len(name)) for name in names)


def _frame(parts: Sequence[str], height: float, width: float = WIDTH) -> str:
    body = "\n".join(parts)
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="DejaVu Sans, sans-serif">\n{body}\n</svg>\n'


@dataclass(frozen=True)
class _Letters:
    """The look of a text; one of more than `longest` letters is shortened in its middle."""

    anchor: str = "middle"
    colour: str = _INK
    size: float = 10.0
    turn: float = 0.0
    longest: int = _LONGEST


def _title(text: str) -> str:
    return _text(WIDTH / 2, 14.0, text, _Letters(size=12.0, longest=60))


def _text(x: float, y: float, text: str, letters: _Letters = _Letters()) -> str:
    turned = f' transform="rotate({letters.turn} {x:.1f} {y:.1f})"' if letters.turn else ""
    longest = letters.longest
    shown = text if len(text) <= longest else f"{text[: longest - 9]}…{text[-8:]}"  # the end may be a hash
    hover = f"<title>{escape(text)}</title>" if shown != text else ""
    look = f'font-size="{letters.size:g}" text-anchor="{letters.anchor}" fill="{letters.colour}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {look}{turned}>{hover}{escape(shown)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, dash: str = "") -> str:
    return _path([(x1, y1), (x2, y2)], colour, dash, 0.8, dots=False)


def _path(points: Sequence[tuple[float, float]], colour: str, dash: str, width: float, dots: bool = True) -> str:
    way = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    line = f'<polyline points="{way}" fill="none" stroke="{colour}" stroke-width="{width:g}"{dashed}/>'
    marks = [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2" fill="{colour}"/>' for x, y in points] if dots else []
    return "".join([line, *marks])
