"""`compare=`: finished runs side by side, from their folders alone."""

import glob
from collections.abc import Iterable
from pathlib import Path

from omegaconf import DictConfig

from lightning_embed.config.identity import TRAINED_BY
from lightning_embed.config.run_yaml import recorded_choices
from lightning_embed.errors import ConfigError
from lightning_embed.report import write_comparison
from lightning_embed.run.terminal import console
from lightning_embed.types import Choice


def compare(cfg: DictConfig) -> None:
    """Write one table, one page and the figures of the runs in `compare` to `<out>`.

    Raises:
        ConfigError: a folder holds no evaluated run, or `out` is the folder of a run.
    """
    folders = {folder: _shared_choices(folder) for folder in _folders(cfg.compare)}
    write_comparison(folders, Path(cfg.out), console, cfg.optimized_metric)


def _folders(patterns: Iterable[str]) -> list[Path]:
    """The folders of evaluated runs that match the patterns; other folders, such as sweeps, are skipped."""
    folders = []
    for pattern in patterns:
        runs = [path for path in map(Path, sorted(glob.glob(pattern))) if (path / "run.yaml").exists()]
        measured = [path for path in runs if (path / "results.json").exists()]
        if not measured:
            why = "its models are not measured yet" if runs else "it matches no folder of a run (with a run.yaml)"
            raise ConfigError(f"compare: {pattern}: {why}. Give folders of finished runs, like runs/a or runs/grid-*.")
        folders += measured
    return list(dict.fromkeys(folders))


def _shared_choices(folder: Path) -> set[Choice]:
    """The choices that all jobs of a folder share: those on which its experts depend, the seed included."""
    return {choice for choice in recorded_choices(folder) if choice.owner in ("experiment", *TRAINED_BY)}
