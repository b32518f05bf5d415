"""What came out: results.json, the tables on the terminal, report.html, and the table at the end of a sweep."""

from lightning_embed.report.plot import BASE
from lightning_embed.report.run import Run
from lightning_embed.report.summary import Block, summary
from lightning_embed.report.sweep import SweepTable
from lightning_embed.report.table import sweep_table

__all__ = ["BASE", "Block", "Run", "SweepTable", "summary", "sweep_table"]
