"""Unique names for folders."""

from collections.abc import Collection, Sequence
from pathlib import Path


def named_by_repository(path: Path) -> Path:
    """A path that ends in owner and name, for a snapshot of the hub's cache, whose own name is that of a commit."""
    repository = path.parent.parent
    if path.parent.name == "snapshots" and repository.name.startswith("models--"):
        return repository.parent.joinpath(*repository.name.removeprefix("models--").split("--"))
    return path


def distinct(paths: Sequence[Path], taken: Collection[str] = ()) -> list[str]:
    """The last part of each path, with as many parents as make the names unique and different from those `taken`."""
    for depth in range(1, 10):
        names = ["-".join(path.relative_to(path.anchor).parts[-depth:]) for path in paths]
        if len(set(names)) == len(names) and not set(taken) & set(names):
            break
    return names
