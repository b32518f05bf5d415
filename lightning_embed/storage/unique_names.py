"""Unique names for folders."""

from collections.abc import Collection, Sequence
from pathlib import Path


def distinct(paths: Sequence[Path], taken: Collection[str] = ()) -> list[str]:
    """The last part of each path, with as many parents as make the names unique and different from those `taken`."""
    for depth in range(1, 10):
        names = ["-".join(path.relative_to(path.anchor).parts[-depth:]) for path in paths]
        if len(set(names)) == len(names) and not set(taken) & set(names):
            break
    return names
