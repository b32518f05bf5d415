"""Style shared by the pictures of matplotlib: figures, output files, and the mark of each kind of model."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

from lightning_embed.report.scores.model_kinds import Kind
from lightning_embed.storage.atomic import write_whole
from lightning_embed.storage.publish import published_file

INK = "#1a1a1a"
MARKS = {Kind.base: "s", Kind.source: "o", Kind.merge: "D", Kind.ensemble: "*"}
WORDS = {Kind.base: "base", Kind.source: "trained", Kind.merge: "merged", Kind.ensemble: "ensemble (N encoders)"}


def short(name: str, longest: int = 48) -> str:
    """A name beside or above a picture; a very long one, which would leave no room to draw, without its middle."""
    half = longest // 2
    return name if len(name) <= longest else f"{name[: half - 1]}…{name[-half:]}"


@contextmanager
def drawing(width: float, height: float, letters: int = 9) -> Iterator[Any]:
    """An empty figure of `width` by `height` inches, with letters of `letters` points inside the context."""
    from matplotlib.figure import Figure  # takes half a second

    with _plain({"font.size": letters}):
        yield Figure(figsize=(width, height), layout="constrained")


def as_svg(figure: Any) -> str:
    """A figure as inline SVG: letters stay text, and the same figure gives the same SVG."""
    image = StringIO()
    with _plain({"svg.fonttype": "none", "svg.hashsalt": "figure"}):
        figure.savefig(image, format="svg", metadata={"Date": None}, transparent=True)
    text = image.getvalue()
    return text[text.index("<svg") :]


def save(figure: Any, file: Path) -> list[Path]:
    """Write an SVG and a PNG; `file` without suffix."""
    svg, png = (file.with_name(f"{file.name}.{suffix}") for suffix in ("svg", "png"))
    write_whole(svg, as_svg(figure))
    with published_file(png) as partial, _plain({}):
        figure.savefig(partial, dpi=150, format="png")
    return [svg, png]


@contextmanager
def _plain(settings: Mapping[str, Any]) -> Iterator[None]:
    """Draw names as they are: a $ begins no formula, and a script that the font of PNGs lacks is no warning.

    Ticks get their text when a figure is saved. In an SVG the letters are text, for which a browser finds a font.
    """
    import matplotlib as mpl

    with mpl.rc_context({"text.parse_math": False, **settings}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph ")
        yield
