"""The console on which a run prints."""

from lightning_embed.report.console import PlainConsole

console = PlainConsole()
