"""A console for texts from elsewhere: names, paths and messages are printed as they are."""

from typing import Any

from rich.console import Console
from rich.text import Text

from lightning_embed.storage.names import visible_lines


class PlainConsole(Console):
    """A console without markup and emoji codes, which prints control characters as escapes."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Every string that is printed, in a table too."""
        return super().render_str(visible_lines(text), **options)


def plainly(text: str, style: str = "") -> Text:
    """A text as it is, on any console."""
    return Text(visible_lines(text), style=style)
