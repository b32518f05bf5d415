"""The terminal of a run."""

from rich.console import Console

console = Console()
