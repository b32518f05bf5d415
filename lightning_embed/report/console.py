"""A console for texts from elsewhere: names, paths and messages are printed as they are."""

from typing import Any

from rich.console import Console
from rich.text import Text

from lightning_embed.runtime import streams
from lightning_embed.storage.names import visible_lines


class PlainConsole(Console):
    """A console without markup and emoji codes, which prints control characters as escapes."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Every string that is printed, in a table too."""
        return super().render_str(visible_lines(text), **options)

    def on_broken_pipe(self) -> None:
        """End the command as any other that nobody reads; rich itself would end it with status 1."""
        streams.end_if_unread()
        raise  # rich calls this while it handles the error


def plainly(text: str, style: str = "") -> Text:
    """A text as it is, on any console."""
    return Text(visible_lines(text), style=style)
