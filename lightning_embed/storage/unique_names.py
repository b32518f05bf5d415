"""Names for folders."""

from collections.abc import Collection, Sequence
from pathlib import Path


def distinct(paths: Sequence[Path], taken: Collection[str] = ()) -> list[str]:
    """The last part of each path, with as many parts before it as it takes to tell them apart, and from what is `taken`."""
    for depth in range(1, 10):
        names = ["-".join(path.relative_to(path.anchor).parts[-depth:]) for path in paths]
        if len(set(names)) == len(names) and not set(taken) & set(names):
            break
    return names
