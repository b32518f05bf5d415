"""`compare=`: finished runs side by side, from their folders alone."""

import glob
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from lightning_embed.config import run_yaml
from lightning_embed.config.identity import TRAINED_BY
from lightning_embed.errors import ConfigError
from lightning_embed.report import write_comparison
from lightning_embed.report.compare.recipes import measured_alike
from lightning_embed.report.scores import results_file
from lightning_embed.run.terminal import console
from lightning_embed.types import Choice


def compare(cfg: DictConfig) -> None:
    """Write one table, one page and the figures of the runs in `compare` to `<out>`.

    A folder that is named must be in the table. Of the folders that a wildcard matches, those that are no runs (sweeps,
    for example) are skipped, and runs that cannot be compared are printed with the reason.

    Raises:
        ConfigError: a named folder cannot be compared, fewer than two runs can, or `out` is the folder of a run.
    """
    named, matched = _named(cfg.compare), _matched(cfg.compare)
    reasons = {folder: reason for folder in named + matched if (reason := _unusable(folder)) is not None}
    usable = [folder for folder in _distinct(named + matched) if folder not in reasons]
    alike = measured_alike(usable)
    others = [folder for folder in usable if folder not in alike]  # `write_comparison` prints them
    if len(alike) < 2 or any(folder in named for folder in [*reasons, *others]):
        _refuse(reasons | dict.fromkeys(others, "its evaluation differs from that of the others"), len(alike))
    for folder, reason in reasons.items():
        console.print(f"left out, because {reason}: {folder}", soft_wrap=True, markup=False, highlight=False)
    write_comparison({f: _shared_choices(f) for f in usable}, Path(cfg.out), console, cfg.optimized_metric)


def _named(patterns: Sequence[str]) -> list[Path]:
    """The folders that are given by their names.

    Raises:
        ConfigError: one is given twice.
    """
    named = [Path(pattern) for pattern in patterns if not _is_wildcard(pattern)]
    for number, folder in enumerate(named):
        if folder.resolve() in [other.resolve() for other in named[:number]]:
            raise ConfigError(f"compare: {folder} is given twice. Remove one.")
    return named


def _matched(patterns: Sequence[str]) -> list[Path]:
    """The folders of runs that the wildcards match.

    Raises:
        ConfigError: a wildcard matches none.
    """
    matched: list[Path] = []
    for pattern in filter(_is_wildcard, patterns):
        runs = [path for path in map(Path, sorted(glob.glob(pattern))) if (path / run_yaml.FILE).exists()]
        if not runs:
            raise ConfigError(
                f"compare: {pattern}: it matches no folder of a run (with a {run_yaml.FILE}). "
                "Give folders of finished runs, like runs/a or runs/grid-*."
            )
        matched += runs
    return matched


def _is_wildcard(pattern: str) -> bool:
    return glob.has_magic(pattern) and not Path(pattern).exists()


def _distinct(folders: Sequence[Path]) -> list[Path]:
    """Each folder once; a wildcard may match a folder that is also named."""
    return list({folder.resolve(): folder for folder in reversed(folders)}.values())[::-1]


def _unusable(folder: Path) -> str | None:
    """Why a folder cannot be compared; None: it can."""
    if not (folder / run_yaml.FILE).exists():
        return f"it is no folder of a run (with a {run_yaml.FILE})"
    if run_yaml.read(folder) is None:
        return f"its {run_yaml.FILE} cannot be read"
    return None if results_file.read(folder)["models"] else "its models are not measured yet"


def _refuse(reasons: dict[Path, str], count: int) -> None:
    """Raise an error with the reason for every folder that cannot be compared."""
    lines = [f"compare: {folder}: {reason}." for folder, reason in sorted(reasons.items())]
    found = "" if count > 1 else f"compare: expected two runs or more with one evaluation, found {count}. "
    raise ConfigError("\n".join([*lines, f"{found}Give folders of finished runs, like runs/a or runs/grid-*."]))


def _shared_choices(folder: Path) -> set[Choice]:
    """The choices that all jobs of a folder share: those on which its experts depend, the seed included."""
    return {each for each in run_yaml.recorded_choices(folder) if each.owner in ("experiment", *TRAINED_BY)}
