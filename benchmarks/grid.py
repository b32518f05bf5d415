"""The table, the page and the numbers of a sweep that is still running, or was killed: from its folders alone.

python benchmarks/grid.py runs/grid-* --out benchmarks/grid_small/results
"""

import argparse
from pathlib import Path

from omegaconf import OmegaConf
from rich.console import Console

from lightning_embed.report import write_sweep

TRAINED_BY = (
    "seed",
    "experiment",
    "data",
    "encoder",
    "sampler",
    "experts",
    "retrieval_loss",
    "sts_loss",
    "loss@sts_loss",
    "loss@retrieval_loss",
    "optimizer",
    "scheduler",
    "trainer",
)


def overrides(folder: Path) -> set[str]:
    """What all jobs of a folder shared: what its experts depend on."""
    given = OmegaConf.load(folder / "run.yaml").overrides
    return {override for override in given if override.lstrip("+~").partition("=")[0].partition(".")[0] in TRAINED_BY}


def main() -> None:
    """Write the results of the folders that have any."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    given.out.parent.mkdir(parents=True, exist_ok=True)
    folders = {folder: overrides(folder) for folder in given.folders if (folder / "results.json").exists()}
    write_sweep(folders, given.out, Console(width=140))


if __name__ == "__main__":
    main()
