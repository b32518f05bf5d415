"""The table, the page and the numbers of a sweep that is still running, or was killed: from its folders alone.

python benchmarks/grid.py runs/grid-* --out benchmarks/grid_small/results
"""

import argparse
from pathlib import Path

from omegaconf import OmegaConf
from rich.console import Console

from lightning_embed.config import TRAINED_BY
from lightning_embed.report import write_sweep


def overrides(folder: Path) -> set[str]:
    """What all jobs of a folder shared: what its experts depend on."""
    given = OmegaConf.load(folder / "run.yaml").overrides
    owners = {o: o.lstrip("+~").partition("=")[0].rpartition("@")[2].partition(".")[0] for o in given}
    return {override for override, owner in owners.items() if owner in ("experiment", *TRAINED_BY)}


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
