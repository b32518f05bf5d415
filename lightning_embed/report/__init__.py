"""Results of runs: results.json, tables on the terminal, report.html, and comparisons of finished runs."""

from lightning_embed.report.comparison_report import write_comparison
from lightning_embed.report.figures.geometry import draw_geometry
from lightning_embed.report.figures.gradient_conflict import draw_conflict, read_conflict
from lightning_embed.report.figures.landscape import LANDSCAPES, draw_landscape
from lightning_embed.report.figures.style import save
from lightning_embed.report.pages.doctor import print_doctor
from lightning_embed.report.run_results import Run
from lightning_embed.report.scores.summary import ensemble_name, is_ensemble

__all__ = [
    "LANDSCAPES",
    "Run",
    "draw_conflict",
    "draw_geometry",
    "draw_landscape",
    "ensemble_name",
    "is_ensemble",
    "print_doctor",
    "read_conflict",
    "save",
    "write_comparison",
]
