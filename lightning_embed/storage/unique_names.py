"""Unique names for folders; a snapshot of the hub's cache has the name of its repository."""

import re
from collections.abc import Collection, Sequence
from pathlib import Path

_SNAPSHOT = re.compile(r"(?P<cache>.*)/models--(?P<name>[^/]+)/snapshots/(?P<commit>[^/]+)/?")


def distinct(paths: Sequence[Path], taken: Collection[str] = ()) -> list[str]:
    """The last part of each path, with as many parents as make the names unique and different from those `taken`.

    Snapshots of one repository differ by the first digits of their commits.
    """
    shown = [_shown(path, 0) for path in paths]
    if len(set(shown)) < len(shown):
        shown = [_shown(path, digits=7) for path in paths]
    for depth in range(1, 10):
        names = ["-".join(path.relative_to(path.anchor).parts[-depth:]) for path in shown]
        if len(set(names)) == len(names) and not set(taken) & set(names):
            break
    return names


def repository(path: Path) -> str | None:
    """The name on the hub, `owner/name`, of a snapshot in its cache; None: the path is no snapshot."""
    found = _SNAPSHOT.fullmatch(str(path.absolute()))
    return found["name"].replace("--", "/") if found else None


def _shown(path: Path, digits: int) -> Path:
    found = _SNAPSHOT.fullmatch(str(path))
    if found is None:
        return path
    commit = f"-{found['commit'][:digits]}" if digits else ""
    return Path(found["cache"] or "/", f"{found['name'].replace('--', '/')}{commit}")
