"""Make the W&B dashboard of a project: sections training, conflict, merging, results.

pip install wandb-workspaces; wandb login
python examples/wandb_dashboard.py <entity> <project>          prints the address of a new saved view

Needs the network: that W&B takes what is sent has not been tried. Tests check that it is made without network, and that
its keys are those that a run logs. `docs/wandb.md` lists the same panels, for making them by hand.
"""

import sys
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Panel:
    """One panel.

    Args:
        kind: lines (over steps), bars (the last value of each run), points (two values of each run), pictures or table.
        title: above it.
        keys: what it shows; of lines, regular expressions.
    """

    kind: str
    title: str
    keys: tuple[str, ...]


DASHBOARD = {
    "Training": [
        Panel("lines", "Loss of each dataset", ("train/loss/.*",)),
        Panel("lines", "Dev loss of each dataset", ("dev/loss/.*",)),
        Panel("lines", "Learning rate", ("train/learning_rate",)),
        Panel("lines", "Norm of the gradient", ("train/grad_norm",)),
        Panel("lines", "Tokens a second", ("throughput/tokens_per_second",)),
        Panel("lines", "Share of padding", ("throughput/padding_share",)),
        Panel("table", "Plan: experts, datasets, rows", ("plan",)),
    ],
    "Conflict": [
        Panel("lines", "Cosine of the gradients of two tasks", ("conflict/cosine/.*/all",)),
        Panel("lines", "Share of coordinates of opposite sign", ("conflict/sign_share/.*/all",)),
        Panel("pictures", "Cosines, layer by layer", ("picture/conflict",)),
        Panel("lines", "Uniformity of the embeddings", ("geometry/uniformity/.*",)),
        Panel("lines", "Alignment of the embeddings", ("geometry/alignment/.*",)),
    ],
    "Merging": [
        Panel("lines", "Coefficients over the search", ("merge/coefficient/.*",)),
        Panel("lines", "Loss over the search", ("merge/loss",)),
        Panel("bars", "Distance from the base", ("geometry/norm/merged",)),
        Panel("bars", "Share of conflicting signs", ("geometry/sign_conflict_share",)),
        Panel("bars", "Independent directions", ("geometry/effective_directions",)),
        Panel("pictures", "Where the sources lie, and the loss between them",
              ("picture/geometry", "picture/plane", "picture/paths")),
        Panel("table", "Geometry of every layer", ("geometry",)),
    ],
    "Results": [
        Panel("bars", "Dev, mean of tasks", ("dev/mean",)),
        Panel("bars", "Test in domain, mean of tasks", ("test_in_domain/mean",)),
        Panel("bars", "Test out of domain, mean of tasks", ("test_out_of_domain/mean",)),
        Panel("points", "Dev against cost", ("cost/rows", "dev/mean")),
        Panel("pictures", "Quality against cost", ("picture/quality",)),
        Panel("table", "Every score", ("results",)),
    ],
}  # fmt: skip


def workspace(entity: str, project: str) -> Any:
    """The dashboard as wandb-workspaces has it; nothing is sent."""
    from wandb_workspaces import workspaces

    sections = [
        workspaces.Section(name=name, panels=[drawn(panel) for panel in panels], is_open=True)
        for name, panels in DASHBOARD.items()
    ]
    return workspaces.Workspace(entity=entity, project=project, name="lightning_embed", sections=sections)


def drawn(panel: Panel) -> Any:
    """A panel as wandb-workspaces has it."""
    from wandb_workspaces.reports import v2 as reports

    if panel.kind == "lines":
        return reports.LinePlot(title=panel.title, x="trainer/global_step", metric_regex="|".join(panel.keys))
    if panel.kind == "bars":
        return reports.BarPlot(title=panel.title, metrics=list(panel.keys))
    if panel.kind == "points":
        x, y = map(reports.SummaryMetric, panel.keys)
        return reports.ScatterPlot(title=panel.title, x=x, y=y)
    if panel.kind == "pictures":
        return reports.MediaBrowser(title=panel.title, media_keys=list(panel.keys))
    return reports.WeavePanelSummaryTable(table_name=panel.keys[0])


if __name__ == "__main__":
    made = workspace(*sys.argv[1:3])
    made.save()
    print(made.url)
