"""The console on which a run prints."""

from rich.console import Console

console = Console()
