"""Style shared by the pictures of matplotlib: figures, output files, and the mark of each kind of model."""

from collections.abc import Iterator
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


@contextmanager
def drawing(width: float, height: float, letters: int = 9) -> Iterator[Any]:
    """An empty figure of `width` by `height` inches, with letters of `letters` points inside the context."""
    import matplotlib as mpl  # takes half a second
    from matplotlib.figure import Figure

    with mpl.rc_context({"font.size": letters}):
        yield Figure(figsize=(width, height), layout="constrained")


def as_svg(figure: Any) -> str:
    """A figure as inline SVG: letters stay text, and the same figure gives the same SVG."""
    import matplotlib as mpl

    image = StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "figure"}):
        figure.savefig(image, format="svg", metadata={"Date": None}, transparent=True)
    text = image.getvalue()
    return text[text.index("<svg") :]


def save(figure: Any, file: Path) -> list[Path]:
    """Write an SVG and a PNG; `file` without suffix."""
    svg, png = (file.with_name(f"{file.name}.{suffix}") for suffix in ("svg", "png"))
    write_whole(svg, as_svg(figure))
    with published_file(png) as partial:
        figure.savefig(partial, dpi=150, format="png")
    return [svg, png]
