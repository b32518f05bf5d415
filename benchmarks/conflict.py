"""Draw how the tasks of a run agreed: cosines of their gradients against steps, one picture per expert.

python train.py experts=joint callback=diagnostics out=runs/joint
python benchmarks/conflict.py runs/joint            (reads runs/joint/logs, writes runs/joint/conflict-<expert>.svg and .png)

One panel per pair of tasks: the embeddings, each layer from the first (dark) to the last (light), all parameters.
"""

import sys
from pathlib import Path

from lightning_embed.report.figures.gradient_conflict import draw_conflict, read_conflict
from lightning_embed.report.figures.style import save


def main(out: str) -> None:
    """Draw every expert that was measured."""
    found = False
    for folder in sorted(Path(out).glob("logs/*")):
        if curves := read_conflict(folder):
            found = True
            _, png = save(
                draw_conflict(curves, f"Agreement of gradients, {folder.name}"), Path(out, f"conflict-{folder.name}")
            )
            print(png)
    if not found:
        sys.exit(f"{out}: no conflict was logged; train with callback=diagnostics and experts that have several tasks.")


if __name__ == "__main__":
    main(sys.argv[1])
