"""`compare=`: finished runs side by side, from their folders alone."""

import glob
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lightning_embed.config.identity import TRAINED_BY
from lightning_embed.errors import ConfigError
from lightning_embed.report import write_comparison
from lightning_embed.run.terminal import console


def compare(cfg: DictConfig) -> None:
    """One table, one page and the pictures of the runs that `compare` names, in `<out>`.

    Raises:
        ConfigError: a folder in which nothing was measured, or `out` is the folder of a run.
    """
    folders = {folder: _overrides(folder) for folder in _folders(cfg.compare)}
    write_comparison(folders, Path(cfg.out), console, cfg.optimized_metric)


def _folders(patterns: Iterable[str]) -> list[Path]:
    """The folders that patterns name; what a pattern finds beside runs (sweeps, say) is passed over."""
    found = []
    for pattern in patterns:
        runs = [path for path in map(Path, sorted(glob.glob(pattern))) if (path / "run.yaml").exists()]
        measured = [path for path in runs if (path / "results.json").exists()]
        if not measured:
            why = "its models are not measured yet" if runs else "no folder of a run (with its run.yaml) is there"
            raise ConfigError(f"compare: {pattern}: {why}. Give folders of finished runs, like runs/a or runs/grid-*.")
        found += measured
    return list(dict.fromkeys(found))


def _overrides(folder: Path) -> set[str]:
    """What all jobs of a folder shared: what its experts depend on, and the seed."""
    given: Any = OmegaConf.to_container(OmegaConf.load(folder / "run.yaml").overrides, resolve=False)
    owners = {o: o.lstrip("+~").partition("=")[0].rpartition("@")[2].partition(".")[0] for o in given}
    return {override for override, owner in owners.items() if owner in ("experiment", *TRAINED_BY)}
